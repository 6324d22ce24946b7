import { ipText } from '../packet/address.ts';
import { Decoded, IpProto } from '../packet/decode.ts';
import { Fragments } from '../packet/fragments.ts';
import { LinkType } from '../packet/link/types.ts';
import { Checksum, Packet } from '../packet/packet.ts';
import { ayiya, looksLikeAyiya } from '../packet/tunnel/ayiya.ts';
import { geneve } from '../packet/tunnel/geneve.ts';
import { gre, wholeIp } from '../packet/tunnel/gre.ts';
import { gtp } from '../packet/tunnel/gtp.ts';
import { Inside, TunnelPayload } from '../packet/tunnel/payload.ts';
import { looksLikeTeredo, teredo } from '../packet/tunnel/teredo.ts';
import { vxlan } from '../packet/tunnel/vxlan.ts';
import { KEY4_BYTES, KEY6_BYTES } from './keys.ts';
import { C_UID, COLD_WORDS, FLAGS, Flag, WORDS } from './layout.ts';
import { hostOf, portOf } from './record.ts';
import type { Sighting } from './sighting.ts';
import type { FlowTable } from './table.ts';
import { addressWords } from './tie.ts';
import { MAX_DEPTH, type Tunnel, type Tunnels } from './tunnels.ts';
import type { ConnRecord, TunnelPorts, TunnelType } from './types.ts';
import { uidText } from './uid.ts';

type Parser = (u8: Uint8Array, at: number, end: number, out: TunnelPayload) => Inside;

interface Carrying {
  readonly type: TunnelType;
  /** As it stands in `service`. */
  readonly service: string;
  readonly parse: Parser;
}

const VXLAN: Carrying = { type: 'VXLAN', service: 'vxlan', parse: vxlan };
const GENEVE: Carrying = { type: 'GENEVE', service: 'geneve', parse: geneve };
const GTP: Carrying = { type: 'GTPv1', service: 'gtpv1', parse: gtp };
const TEREDO: Carrying = { type: 'TEREDO', service: 'teredo', parse: teredo };
const AYIYA: Carrying = { type: 'AYIYA', service: 'ayiya', parse: ayiya };

const GRE_PORT = 4754;
/** By the port of the responder (Zeek: scripts/base/packet-protocols). */
const BY_PORT: readonly (readonly [number, Carrying])[] = [
  [2152, GTP],
  [2123, GTP],
  [3544, TEREDO],
  [5072, AYIYA],
];
/** VXLAN, GENEVE: as Zeek's PacketAnalyzer::VXLAN::vxlan_ports and PacketAnalyzer::Geneve::geneve_ports. */
export const DEFAULT_TUNNEL_PORTS: TunnelPorts = { vxlan: [4789], geneve: [6081] };

/** Packets inside of packets that are taken apart at once: tunnels, fragments of each, and 802.11 aggregates. */
const MAX_LEVELS = 2 * MAX_DEPTH + 3;
const MAX_SUBFRAMES = 64;
const SUBFRAME_HEADER = 14;

/** A UDP flow that is, or was taken for, a tunnel. */
interface Carrier {
  readonly carrying: Carrying;
  tunnel: Tunnel | undefined;
  /** A tunnel header was right; Teredo: of the originator (1) and the responder (2). */
  valid: number;
  violated: boolean;
}

/** What accounts the packets that are found inside. */
export interface InnerHost {
  /** Decodes and accounts a packet; the slot of its flow, or -1. The sighting is used for it, what was in it is lost. */
  inner(packet: Packet, sighting: Sighting): number;
  /** Which of several networks the addresses of the packet in work belong to; 0: there is one, or they are not told apart. */
  readonly network: number;
  /** The same for an IP packet that was put together from fragments, of which it saw the last one. */
  whole(packet: Packet, sighting: Sighting): number;
}

/** Takes apart what carries other packets: UDP and IP tunnels, fragments, aggregates. Never throws. */
export class Carriers {
  readonly tunnels: Tunnels;
  readonly #host: InnerHost;
  readonly #table: FlowTable;
  readonly #fragments: Fragments;
  readonly #carriers = new Map<number, Carrier>();
  readonly #payload = new TunnelPayload();
  /** One packet per level: nothing is made per packet. */
  readonly #packets = Array.from({ length: MAX_LEVELS }, () => new Packet());
  #level = 0;

  readonly #byPort: ReadonlyMap<number, Carrying>;
  /** One byte a port: whether tunnels answer there. */
  readonly isPort = new Uint8Array(65_536);

  constructor(
    host: InnerHost,
    table: FlowTable,
    tunnels: Tunnels,
    fragmentBytes: number,
    { vxlan: vxlanPorts, geneve: genevePorts }: TunnelPorts,
  ) {
    this.#byPort = new Map([
      ...BY_PORT,
      ...vxlanPorts.map((port) => [port, VXLAN] as const),
      ...genevePorts.map((port) => [port, GENEVE] as const),
    ]);
    for (const port of [GRE_PORT, ...this.#byPort.keys()]) this.isPort[port] = 1;
    this.#host = host;
    this.#table = table;
    this.tunnels = tunnels;
    this.#fragments = new Fragments({ timeout: 300, bytes: fragmentBytes });
  }

  /** A frame of which `decode` did not say ok: the slot of a flow inside, or -1. */
  other(packet: Packet, sighting: Sighting): number {
    switch (sighting.verdict) {
      case Decoded.fragment:
        return this.#fragment(packet, sighting);
      case Decoded.carrier:
        return this.#ip(packet, sighting);
      case Decoded.aggregate:
        return this.#aggregate(packet, sighting);
      default:
        return -1;
    }
  }

  /**
   * A UDP datagram whose checksum is good and that was accounted. The slot of a flow inside, or -1. What the decoder
   * knows of the datagram is lost when there is one.
   */
  udp(slot: number, packet: Packet, sighting: Sighting, isOrig: boolean, respPort: number): number {
    const { decoder } = sighting;
    const u8 = packet.u8;
    const at = decoder.transport + 8;
    const end = decoder.transport + decoder.captured;
    if (this.isPort[respPort] === 0) {
      if (at + 3 > end) return -1;
      const first = u8[at];
      // All but a few of the packets that are no tunnel end here.
      if (first >>> 4 !== 6 && first !== 0 && u8[at + 1] !== 0x52) return -1;
      if (looksLikeTeredo(u8, at, end)) return this.#carried(slot, TEREDO, packet, sighting, at, end, isOrig);
      if (looksLikeAyiya(u8, at, end)) return this.#carried(slot, AYIYA, packet, sighting, at, end, isOrig);
      return -1;
    }
    const carrying = this.#byPort.get(respPort);
    if (carrying !== undefined) return this.#carried(slot, carrying, packet, sighting, at, end, isOrig);
    return this.#between('GRE', gre, packet, sighting, at, end);
  }

  /** Adds to a record what only tunnels know. */
  describe(slot: number, record: ConnRecord): void {
    this.tunnels.describe(slot, record);
    const carrier = this.#carriers.get(slot);
    if (carrier === undefined || carrier.violated || !isConfirmed(carrier)) return;
    const { service } = carrier.carrying;
    record.service = record.service === undefined ? service : `${service},${record.service}`;
  }

  /** A flow with Flag.tunnelled or Flag.carrier has ended. */
  ended(slot: number, now: number): void {
    this.tunnels.ended(slot);
    const carrier = this.#carriers.get(slot);
    if (carrier === undefined) return;
    this.#carriers.delete(slot);
    if (carrier.tunnel !== undefined) this.tunnels.closed(carrier.tunnel, now);
  }

  #carried(
    slot: number,
    carrying: Carrying,
    packet: Packet,
    sighting: Sighting,
    at: number,
    end: number,
    isOrig: boolean,
  ): number {
    let carrier = this.#carriers.get(slot);
    if (carrier === undefined) {
      carrier = { carrying, tunnel: undefined, valid: 0, violated: false };
      this.#carriers.set(slot, carrier);
      const words = this.#table.words;
      words[slot * WORDS + FLAGS] = words[slot * WORDS + FLAGS] | Flag.carrier;
    }
    // GTP goes on after a violation, and is never inside of GTP.
    if (carrier.violated && carrying !== GTP) return -1;
    if (this.tunnels.depth >= MAX_DEPTH) {
      if (carrying !== GTP) this.tunnels.limit(slot);
      return -1;
    }
    const payload = this.#payload;
    payload.confirmed = false;
    payload.vni = -1;
    let inside = carrying.parse(packet.u8, at, end, payload);
    if (carrying === GTP && this.tunnels.innermost?.type === 'GTPv1') inside = Inside.violation;
    if (inside === Inside.violation) {
      carrier.violated = true;
      return -1;
    }
    if (payload.confirmed) carrier.valid |= isOrig ? 1 : 2;
    if (inside !== Inside.packet) return -1;
    carrier.tunnel ??= this.#tunnelOf(slot, carrying.type);
    return this.#descend(carrier.tunnel, packet, sighting, Math.max(0, packet.wirelen - packet.caplen));
  }

  #tunnelOf(slot: number, type: TunnelType): Tunnel {
    const { words, cold } = this.#table;
    const at = slot * COLD_WORDS + C_UID;
    const orig = (words[slot * WORDS + FLAGS] & Flag.origHigh) === 0 ? 0 : 1;
    const resp = orig === 0 ? 1 : 0;
    const key = slot * COLD_WORDS;
    const wide = (words[slot * WORDS + FLAGS] & Flag.wide) !== 0;
    return {
      slot,
      generation: this.#table.generation(slot),
      words: cold.slice(key, key + (wide ? KEY6_BYTES : KEY4_BYTES) / 4),
      uid: uidText(cold[at], cold[at + 1], cold[at + 2]),
      type,
      origHost: hostOf(this.#table, slot, orig),
      origPort: portOf(this.#table, slot, orig),
      respHost: hostOf(this.#table, slot, resp),
      respPort: portOf(this.#table, slot, resp),
      active: false,
      used: 0,
    };
  }

  /** IP in IP and GRE. */
  #ip(packet: Packet, sighting: Sighting): number {
    const { decoder } = sighting;
    const at = decoder.transport;
    const end = at + decoder.captured;
    if (decoder.protocol === IpProto.gre) return this.#between('GRE', gre, packet, sighting, at, end);
    const version = decoder.protocol === IpProto.ipip ? 4 : 6;
    return this.#between('IP', version === 4 ? ipv4InIp : ipv6InIp, packet, sighting, at, end);
  }

  #between(
    type: TunnelType,
    parse: Parser,
    packet: Packet,
    sighting: Sighting,
    at: number,
    end: number,
  ): number {
    if (this.tunnels.depth >= MAX_DEPTH) return -1;
    this.#payload.vni = -1;
    if (parse(packet.u8, at, end, this.#payload) !== Inside.packet) return -1;
    const { source, destination, family } = sighting.decoder;
    const bytes = family === 4 ? 4 : 16;
    const from = addressKey(packet.u8, source, bytes);
    const to = addressKey(packet.u8, destination, bytes);
    const key = from < to ? `${from} ${to}` : `${to} ${from}`;
    const now = packet.ts;
    const tunnel =
      this.tunnels.between(key, now) ??
      this.tunnels.remember(
        key,
        type,
        ipText(packet.u8, source, bytes),
        ipText(packet.u8, destination, bytes),
        addressWords(
          packet.u8.subarray(source, source + bytes),
          packet.u8.subarray(destination, destination + bytes),
        ),
        now,
      );
    // As in Zeek, what was not captured of the outer packet is not known of inside of these.
    return this.#descend(tunnel, packet, sighting, 0);
  }

  /** Accounts what `#payload` tells of. */
  #descend(tunnel: Tunnel, outer: Packet, sighting: Sighting, missing: number): number {
    const { at, bytes, linkType, vni } = this.#payload;
    const packet = this.#next(outer, outer.u8, at, bytes, linkType);
    if (packet === undefined) return -1;
    packet.wirelen = bytes + missing;
    if (outer.checksum === Checksum.notReady) packet.checksum = Checksum.notReady;
    this.tunnels.enter(tunnel, vni);
    try {
      return this.#inner(packet, sighting);
    } finally {
      this.tunnels.leave();
    }
  }

  /** What the owner's hooks throw must not leave a level behind. */
  #inner(packet: Packet, sighting: Sighting): number {
    this.#level++;
    try {
      return this.#host.inner(packet, sighting);
    } finally {
      this.#level--;
    }
  }

  #next(outer: Packet, u8: Uint8Array, at: number, bytes: number, linkType: number): Packet | undefined {
    if (this.#level >= MAX_LEVELS) return undefined;
    const packet = this.#packets[this.#level];
    packet.u8 = u8;
    packet.offset = at;
    packet.caplen = bytes;
    packet.wirelen = bytes;
    packet.ts = outer.ts;
    packet.linkType = linkType;
    packet.vlanTci = -1;
    packet.checksum = Checksum.unknown;
    packet.outgoing = outer.outgoing;
    return packet;
  }

  #fragment(outer: Packet, sighting: Sighting): number {
    const whole = this.#fragments.add(sighting.decoder, outer.u8, outer.ts, this.#host.network);
    if (whole === undefined) return -1;
    const packet = this.#next(outer, whole, 0, whole.length, LinkType.raw);
    if (packet === undefined) return -1;
    this.#level++;
    try {
      return this.#host.whole(packet, sighting);
    } finally {
      this.#level--;
    }
  }

  /** The subframes of an 802.11 A-MSDU, each padded to a multiple of four bytes. */
  #aggregate(outer: Packet, sighting: Sighting): number {
    let at = sighting.decoder.transport;
    const end = at + sighting.decoder.transportBytes;
    let found = -1;
    for (let i = 0; i < MAX_SUBFRAMES && at + SUBFRAME_HEADER <= end; i++) {
      const bytes = (outer.u8[at + 12] << 8) | outer.u8[at + 13];
      at += SUBFRAME_HEADER;
      if (at + bytes > end) break;
      const packet = this.#next(outer, outer.u8, at, bytes, LinkType.snap);
      if (packet === undefined) break;
      const slot = this.#inner(packet, sighting);
      if (slot >= 0) found = slot;
      at += bytes + ((4 - ((SUBFRAME_HEADER + bytes) & 3)) & 3);
    }
    return found;
  }
}

function ipv4InIp(u8: Uint8Array, at: number, end: number, out: TunnelPayload): Inside {
  return wholeIp(u8, at, end, 4, out);
}

function ipv6InIp(u8: Uint8Array, at: number, end: number, out: TunnelPayload): Inside {
  return wholeIp(u8, at, end, 6, out);
}

/** Teredo is confirmed when both sides have spoken it (Zeek: Tunnel::delay_teredo_confirmation). */
function isConfirmed({ carrying, valid }: Carrier): boolean {
  return carrying === TEREDO ? valid === 3 : valid !== 0;
}

function addressKey(u8: Uint8Array, at: number, bytes: 4 | 16): string {
  let text = '';
  for (let i = at; i < at + bytes; i++) text += String.fromCharCode(u8[i]);
  return text;
}
