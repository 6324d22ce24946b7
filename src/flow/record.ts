import { ipText } from '../packet/address.ts';
import { IpProto } from '../packet/decode.ts';
import { ICMP_ONE_WAY } from '../packet/icmp.ts';
import type { Counts } from './counts.ts';
import { type Endpoints, endpointOf, Tcp } from './endpoint.ts';
import type { Histories } from './history.ts';
import {
  C_GENEVE,
  C_UID,
  C_VLANS,
  C_VXLAN,
  CF_MISSED,
  CF_START,
  COLD_BYTES,
  COLD_DOUBLES,
  COLD_WORDS,
  DOUBLES,
  EP_F_PAYLOAD,
  F_LAST,
  FLAGS,
  Flag,
  PROTOCOL_SHIFT,
  WORDS,
} from './layout.ts';
import type { NetSet } from './nets.ts';
import type { FlowTable } from './table.ts';
import type { ConnRecord, Side } from './types.ts';
import { uidText } from './uid.ts';

export function origOf(table: FlowTable, slot: number): Side {
  return (table.words[slot * WORDS + FLAGS] & Flag.origHigh) === 0 ? 0 : 1;
}

export function peerSide(side: Side): Side {
  return side === 0 ? 1 : 0;
}

export function protocolOf(table: FlowTable, slot: number): number {
  return table.words[slot * WORDS + FLAGS] >>> PROTOCOL_SHIFT;
}

/** Originator and responder have changed places (history letter apart). */
export function flipped(table: FlowTable, slot: number): void {
  const at = slot * WORDS + FLAGS;
  table.words[at] = table.words[at] ^ Flag.origHigh;
}

/** Where in the table's cold bytes an address is. */
export interface Address {
  at: number;
  bytes: 4 | 16;
}

/** The address of a side inside of the table's cold bytes; an IPv4 address that was mapped into a wide key is found again. */
export function addressOf(table: FlowTable, slot: number, side: Side): Address {
  const at = slot * COLD_BYTES;
  if ((table.words[slot * WORDS + FLAGS] & Flag.wide) === 0) return { at: at + side * 4, bytes: 4 };
  const wide = at + side * 16;
  for (let i = 0; i < 12; i++)
    if (table.coldBytes[wide + i] !== (i < 10 ? 0 : 0xff)) return { at: wide, bytes: 16 };
  return { at: wide + 12, bytes: 4 };
}

export function hostOf(table: FlowTable, slot: number, side: Side): string {
  const { at, bytes } = addressOf(table, slot, side);
  return ipText(table.coldBytes, at, bytes);
}

/** The port of a side as in the key: for ICMP the type or code. */
export function portOf(table: FlowTable, slot: number, side: Side): number {
  const wide = (table.words[slot * WORDS + FLAGS] & Flag.wide) !== 0;
  const at = slot * COLD_BYTES + (wide ? 32 : 8) + side * 2;
  return (table.coldBytes[at] << 8) | table.coldBytes[at + 1];
}

/** Whether nobody in particular is meant by the address of a side. */
export function isMulticast(table: FlowTable, slot: number, side: Side): boolean {
  const { at, bytes } = addressOf(table, slot, side);
  return bytes === 4 ? table.coldBytes[at] >>> 4 === 14 : table.coldBytes[at] === 0xff;
}

/** RSTOS0: a SYN and then a RST with nothing of importance in between. */
const SYN_THEN_RST = /^\^?S[^HAFGIQ]*R/;

function tcpState(orig: number, resp: number, empty: boolean, history: string): string {
  const origUnheard = orig === Tcp.inactive || orig === Tcp.partial;
  const respUnheard = resp === Tcp.inactive || resp === Tcp.partial;
  if (resp === Tcp.reset) {
    if (orig === Tcp.synSent || orig === Tcp.synAckSent || (orig === Tcp.reset && empty)) return 'REJ';
    return origUnheard ? 'RSTRH' : 'RSTR';
  }
  if (orig === Tcp.reset) {
    if (!respUnheard) return 'RSTO';
    return SYN_THEN_RST.test(history) ? 'RSTOS0' : 'OTH';
  }
  if (orig === Tcp.closed && resp === Tcp.closed) return 'SF';
  if (orig === Tcp.closed) return respUnheard ? 'SH' : 'S2';
  if (resp === Tcp.closed) return origUnheard ? 'SHR' : 'S3';
  if (orig === Tcp.synSent && resp === Tcp.inactive) return 'S0';
  if (orig === Tcp.established && resp === Tcp.established) return 'S1';
  return 'OTH';
}

function udpState(orig: number, resp: number): string {
  if (orig >= 0) return resp >= 0 ? 'SF' : 'S0';
  return resp >= 0 ? 'SHR' : 'OTH';
}

/** The flow as Zeek would log it now. */
export function connRecord(
  table: FlowTable,
  slot: number,
  endpoints: Endpoints,
  counts: Counts,
  histories: Histories,
  localNets: NetSet,
  service: string | undefined,
): ConnRecord {
  const { doubles, cold, coldDoubles } = table;
  const flags = table.words[slot * WORDS + FLAGS];
  const orig: Side = (flags & Flag.origHigh) === 0 ? 0 : 1;
  const resp: Side = orig === 0 ? 1 : 0;
  const origEp = endpointOf(slot, orig);
  const respEp = endpointOf(slot, resp);
  const protocol = flags >>> PROTOCOL_SHIFT;
  const history = histories.text(slot);

  let proto: ConnRecord['proto'] = 'unknown_transport';
  let connState = 'OTH';
  let origBytes = 0;
  let respBytes = 0;
  let origPort = portOf(table, slot, orig);
  let respPort = portOf(table, slot, resp);
  if (protocol === IpProto.tcp) {
    proto = 'tcp';
    origBytes = endpoints.size(origEp);
    respBytes = endpoints.size(respEp);
    const empty = origBytes === 0 && respBytes === 0;
    connState = tcpState(endpoints.state(origEp), endpoints.state(respEp), empty, history);
  } else if (protocol === IpProto.udp || protocol === IpProto.icmp || protocol === IpProto.icmpv6) {
    origBytes = doubles[(origEp >>> 1) + EP_F_PAYLOAD];
    respBytes = doubles[(respEp >>> 1) + EP_F_PAYLOAD];
    if (protocol === IpProto.udp) {
      proto = 'udp';
      connState = udpState(origBytes, respBytes);
    } else {
      proto = 'icmp';
      origPort &= ~ICMP_ONE_WAY;
      respPort &= ~ICMP_ONE_WAY;
    }
    origBytes = Math.max(0, origBytes);
    respBytes = Math.max(0, respBytes);
  }
  const origAddress = addressOf(table, slot, orig);
  const respAddress = addressOf(table, slot, resp);
  const ts = coldDoubles[slot * COLD_DOUBLES + CF_START];
  const duration = doubles[slot * DOUBLES + F_LAST] - ts;
  const vlans = cold[slot * COLD_WORDS + C_VLANS];
  const uid = slot * COLD_WORDS + C_UID;
  return {
    ts,
    uid: uidText(cold[uid], cold[uid + 1], cold[uid + 2]),
    origHost: ipText(table.coldBytes, origAddress.at, origAddress.bytes),
    origPort,
    respHost: ipText(table.coldBytes, respAddress.at, respAddress.bytes),
    respPort,
    proto,
    ipProto: protocol,
    service,
    duration: duration > 0 ? duration : undefined,
    origBytes: duration > 0 ? origBytes : undefined,
    respBytes: duration > 0 ? respBytes : undefined,
    connState,
    localOrig: localNets.has(table.coldBytes, origAddress.at, origAddress.bytes),
    localResp: localNets.has(table.coldBytes, respAddress.at, respAddress.bytes),
    missedBytes: coldDoubles[slot * COLD_DOUBLES + CF_MISSED],
    history: history === '' ? undefined : history,
    origPkts: counts.packets(slot, orig),
    origIpBytes: counts.ipBytes(slot, orig),
    respPkts: counts.packets(slot, resp),
    respIpBytes: counts.ipBytes(slot, resp),
    tunnelParents: undefined,
    vlan: (vlans & 0xfff) === 0 ? undefined : vlans & 0xfff,
    innerVlan: vlans >>> 16 === 0 ? undefined : vlans >>> 16,
    vxlanVni: vniOf(cold[slot * COLD_WORDS + C_VXLAN]),
    geneveVni: vniOf(cold[slot * COLD_WORDS + C_GENEVE]),
  };
}

/** The network identifier in a tunnel id; undefined: not in such a tunnel. */
function vniOf(id: number): number | undefined {
  return id === 0 ? undefined : id & 0xff_ffff;
}
