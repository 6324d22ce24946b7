import { SluiceError } from '../base/errors.ts';
import { keyWord, writeGateKey } from '../flow/keys.ts';
import type { Side } from '../flow/types.ts';
import { ipBytes, ipText } from '../packet/address.ts';

export interface Endpoint {
  addr: string;
  port: number;
}

/** A flow as people and scripts name it. */
export interface FlowName {
  /** `tcp`, `udp`, `icmp`, `icmp6`, or the number of another protocol. */
  proto: string;
  a: Endpoint;
  b: Endpoint;
  /** VLAN ids; 0 unless they are part of the key. */
  vlan: number;
  innerVlan: number;
  /** VXLAN network identifier; 0: not in such a tunnel. */
  vni: number;
  /** The same of GENEVE: another one, though the numbers be the same. */
  geneveVni?: number | undefined;
}

export interface FlowKey {
  family: 4 | 6;
  bytes: Uint8Array;
  tcp: boolean;
  /** Which side of the key `a` is: its directions come in that order. */
  sideOfA: Side;
}

const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmp6: 58, sctp: 132 };
const NAMES = new Map(Object.entries(PROTOCOLS).map(([name, number]) => [number, name]));
/** Echo request and reply: what ICMP without types means. */
const ECHO = { icmp: [8, 0], icmp6: [128, 129] } as const;
const IPPROTO_TCP = 6;
/** In the top byte of a tunnel's word: there is one of its kind. */
const TUNNEL_ID = 0x0100_0000;
const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/** The number of a protocol by its name or number; undefined when there is none such. */
export function protocolNumber(name: string): number | undefined {
  if (Object.hasOwn(PROTOCOLS, name)) return PROTOCOLS[name];
  return /^\d{1,3}$/.test(name) && Number(name) < 256 ? Number(name) : undefined;
}

/** `tcp` for 6; the number of what has no name here. */
export function protocolName(number: number): string {
  return NAMES.get(number) ?? String(number);
}

/** @throws SluiceError USAGE */
export function flowKey(flow: FlowName): FlowKey {
  const protocol = protocolNumber(flow.proto);
  const a = ipBytes(flow.a.addr);
  const b = ipBytes(flow.b.addr);
  if (protocol === undefined) throw usage(`there is no protocol ${flow.proto}`);
  if (a === undefined) throw usage(`${flow.a.addr} is not an address`);
  if (b === undefined) throw usage(`${flow.b.addr} is not an address`);
  if (a.length !== b.length) throw usage(`${flow.a.addr} and ${flow.b.addr} are not of one family`);
  const both = new Uint8Array(2 * a.length);
  both.set(a);
  both.set(b, a.length);
  const out = new Int32Array(12);
  const word = keyWord(protocol, flow.vlan, flow.innerVlan);
  const bytes = a.length === 4 ? 4 : 16;
  const [vxlan, geneve] = [tunnelId(flow.vni), tunnelId(flow.geneveVni ?? 0)];
  const side = writeGateKey(out, bytes, both, 0, bytes, flow.a.port, flow.b.port, word, vxlan, geneve);
  const family = bytes === 16 || (vxlan | geneve) !== 0 ? 6 : 4;
  const key = new Uint8Array(out.buffer, 0, family === 4 ? 16 : 48).slice();
  return { family, bytes: key, tcp: protocol === IPPROTO_TCP, sideOfA: side };
}

/** As it stands in a key; 0: in no tunnel of this kind. */
function tunnelId(vni: number): number {
  return vni === 0 ? 0 : TUNNEL_ID | vni;
}

/** The flow that a key names; `a` is the low side. */
export function flowOfKey(family: 4 | 6, key: Uint8Array): FlowName & { tcp: boolean } {
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  const size = family === 4 ? 4 : 16;
  const ports = 2 * size;
  const word = view.getUint32(ports + 4, true);
  const protocol = word & 0xff;
  const vni = family === 6 ? view.getUint32(40, true) & 0xffffff : 0;
  const geneveVni = family === 6 ? view.getUint32(44, true) & 0xffffff : 0;
  // IPv4 in a tunnel is mapped.
  const isMapped = vni + geneveVni > 0 && MAPPED.every((byte, i) => key[i] === byte && key[16 + i] === byte);
  const addr = (at: number): string => (isMapped ? ipText(key, at + 12, 4) : ipText(key, at, size));
  return {
    proto: NAMES.get(protocol) ?? String(protocol),
    a: { addr: addr(0), port: view.getUint16(ports) },
    b: { addr: addr(size), port: view.getUint16(ports + 2) },
    vlan: (word >>> 8) & 0xfff,
    innerVlan: word >>> 20,
    vni,
    ...(geneveVni === 0 ? {} : { geneveVni }),
    tcp: protocol === IPPROTO_TCP,
  };
}

/** A key as a text that tells it from all others. */
export function keyText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}

/**
 * Reads `tcp 10.0.0.1:443 10.0.0.2:51000`, `udp [2001:db8::1]:53 [2001:db8::2]:4000`, `icmp 10.0.0.1 10.0.0.2`. Of ICMP the
 * type stands for the sender's port and the type that answers it for the other's; without them it is an echo.
 * @throws SluiceError USAGE
 */
export function parseFlow(
  text: string,
  tags: { vlan: number; innerVlan: number; vni: number; geneveVni?: number | undefined },
): FlowName {
  const parts = text.trim().split(/\s+/);
  if (parts.length !== 3) throw usage(`'${text}' does not name a flow`);
  const [proto = '', first = '', second = ''] = parts;
  const number = protocolNumber(proto.toLowerCase());
  if (number === undefined) throw usage(`there is no protocol ${proto}`);
  const name = NAMES.get(number) ?? String(number);
  const echo = name === 'icmp' || name === 'icmp6' ? ECHO[name] : undefined;
  const portless = echo === undefined && name !== 'tcp' && name !== 'udp' && name !== 'sctp';
  const a = parseEndpoint(first, echo?.[0] ?? (portless ? 0 : undefined));
  const b = parseEndpoint(second, echo?.[1] ?? (portless ? 0 : undefined));
  const flow = { proto: name, a, b, ...tags };
  flowKey(flow);
  return flow;
}

function parseEndpoint(text: string, port: number | undefined): Endpoint {
  const [, v6, v4, digits] =
    /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::(\d{1,5}))?$/.exec(text) ??
    (port === undefined ? [] : [text, text, undefined, undefined]);
  const addr = v6 ?? v4;
  if (addr === undefined || ipBytes(addr) === undefined) throw usage(`${text} is not ADDRESS:PORT`);
  const found = digits === undefined ? port : Number(digits);
  if (found === undefined || found > 65_535) throw usage(`${text} has no valid port`);
  return { addr, port: found };
}

function endpointText({ addr, port }: Endpoint): string {
  return `${addr.includes(':') ? `[${addr}]` : addr}:${port}`;
}

/** The same flow for people. */
export function flowText({ proto, a, b, vlan, innerVlan, vni, geneveVni = 0 }: FlowName): string {
  const tags = [
    vlan === 0 ? '' : ` vlan ${vlan}${innerVlan === 0 ? '' : `.${innerVlan}`}`,
    vni === 0 ? '' : ` vni ${vni}`,
    geneveVni === 0 ? '' : ` geneve-vni ${geneveVni}`,
  ];
  return `${proto} ${endpointText(a)} ${endpointText(b)}${tags.join('')}`;
}

function usage(message: string): SluiceError {
  return new SluiceError('USAGE', message, {
    help: "a flow is written 'tcp 10.0.0.1:443 10.0.0.2:51000' or 'udp [2001:db8::1]:53 [2001:db8::2]:4000'",
  });
}
