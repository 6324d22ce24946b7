/** What the rows of packet-table.ts are made of. */
import type { Verdict } from '../../src/gate/layout.ts';
import type { GateTunnels } from '../../src/gate/tunnels.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import type { Endpoint, GateKey } from './support.ts';

export interface PacketRow {
  name: string;
  bytes: Uint8Array;
  /** Shunted beforehand. */
  key: GateKey;
  /** VLAN ids are in the key. */
  vlanKey: boolean;
  /** Of the pair, where the key does not tell. */
  family?: 4 | 6;
  /** The gate looks into tunnels. */
  tunnels?: GateTunnels;
  verdict: Verdict;
  /**
   * What the entry has then counted, when the packet was dropped: on which side, IP bytes, and bytes behind the transport
   * header (of TCP the sequence number has advanced by them). Else nothing at all.
   */
  counted?: { side: 0 | 1; ipBytes: number; payload: number };
  /** What a gate does that shunts no flow, but everything between the two addresses. */
  pair: Verdict;
}

/** What the two sides of the TCP connection have sent before the packet. */
export const SENT = [1000, 5000] as const;
/** The pair of addresses, by family. */
export const PAIR = {
  4: ['10.0.0.1', '192.168.0.1'],
  6: ['2001:db8::1', '2001:db8::2'],
} as const;

export const PAYLOAD = 40;
/** Longer than what the kernel keeps in one piece; with all headers it fits an MTU of 9,000. */
export const JUMBO = 8800;
export const PORTS = { sport: 12_345, dport: 443 };
export const TCP = { ...PORTS, seq: SENT[0], ack: SENT[1], flags: 'A', window: 100 };
export const BACK = { sport: 443, dport: 12_345, seq: SENT[1], ack: SENT[0], flags: 'A', window: 100 };
/** Bytes that read as the flow's ports and the rest of a TCP header, where a careless parser would look for them. */
export const SPELLED = eth()
  .ipv4()
  .tcp({ ...TCP, checksum: 0 })
  .bytes()
  .slice(14 + 20);

/** What differs between the families. */
export interface Net {
  family: 4 | 6;
  a: Endpoint;
  b: Endpoint;
  header: 20 | 40;
  icmp: { proto: number; echo: number; reply: number; oneWay: number };
  /** An IP header from a to b behind what is there already; `proto` unless it follows from the next layer. */
  there: (start: PacketBuilder, proto?: number) => PacketBuilder;
  back: (start: PacketBuilder) => PacketBuilder;
  icmpHeader: (packet: PacketBuilder, type: number, code?: number) => PacketBuilder;
  fragment: (offset: number, more: boolean, proto: number) => PacketBuilder;
}

export const [A4, B4] = PAIR[4];
export const [A6, B6] = PAIR[6];
export const NETS: readonly Net[] = [
  {
    family: 4,
    a: { addr: A4, port: PORTS.sport },
    b: { addr: B4, port: PORTS.dport },
    header: 20,
    icmp: { proto: 1, echo: 8, reply: 0, oneWay: 3 },
    there: (start, protocol) =>
      start.ipv4({ src: A4, dst: B4, ...(protocol === undefined ? {} : { protocol }) }),
    back: (start) => start.ipv4({ src: B4, dst: A4 }),
    icmpHeader: (packet, type, code = 0) => packet.icmp({ type, code }),
    fragment: (offset, more, protocol) =>
      eth().ipv4({ src: A4, dst: B4, protocol, id: 7, fragment: { offset, more } }),
  },
  {
    family: 6,
    a: { addr: A6, port: PORTS.sport },
    b: { addr: B6, port: PORTS.dport },
    header: 40,
    icmp: { proto: 58, echo: 128, reply: 129, oneWay: 1 },
    there: (start, nextHeader) =>
      start.ipv6({ src: A6, dst: B6, ...(nextHeader === undefined ? {} : { nextHeader }) }),
    back: (start) => start.ipv6({ src: B6, dst: A6 }),
    icmpHeader: (packet, type, code = 0) => packet.icmpv6({ type, code }),
    fragment: (offset, more, nextHeader) =>
      eth().ipv6({ src: A6, dst: B6 }).fragment({ offset, more, id: 7, nextHeader }),
  },
];

type Packet = PacketBuilder | Uint8Array;
export interface Given {
  key: GateKey;
  vlanKey?: boolean;
}
export type Counted = NonNullable<PacketRow['counted']>;

export function cut(packet: PacketBuilder, length: number): Uint8Array {
  return packet.bytes().slice(0, length);
}

/** Like the packet, with some bytes written over. */
export function patched(packet: PacketBuilder, at: number, ...bytes: number[]): Uint8Array {
  const out = packet.bytes();
  out.set(bytes, at);
  return out;
}

function bytesOf(packet: Packet): Uint8Array {
  return packet instanceof Uint8Array ? packet : packet.bytes();
}

/** Collects rows of one family. */
export class Rows {
  readonly list: PacketRow[] = [];
  readonly #prefix: string;
  readonly #given: Given;

  constructor(prefix: string, given: Given) {
    this.#prefix = prefix;
    this.#given = given;
  }

  /** Dropped, by the flow and by the pair as well. */
  shunted(name: string, packet: Packet, counted: Counted, given = this.#given): void {
    this.#add(name, packet, 'shunted', 'shuntedPair', given, counted);
  }

  /** Passed as `verdict`; `pair` tells what the pair would do: drop it too, unless told otherwise. */
  passed(
    name: string,
    packet: Packet,
    verdict: Verdict,
    pair: Verdict = 'shuntedPair',
    given = this.#given,
  ): void {
    this.#add(name, packet, verdict, pair, given);
  }

  #add(
    name: string,
    packet: Packet,
    verdict: Verdict,
    pair: Verdict,
    { key, vlanKey = false }: Given,
    counted?: Counted,
  ): void {
    this.list.push({
      name: `${this.#prefix}: ${name}`,
      bytes: bytesOf(packet),
      key,
      vlanKey,
      verdict,
      pair,
      ...(counted === undefined ? {} : { counted }),
    });
  }
}
