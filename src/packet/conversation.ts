import { eth, type PacketBuilder, pattern } from './build.ts';
import type { TcpOption } from './layers-transport.ts';
import type { FrameToWrite } from './pcap.ts';

/** A seeded generator of numbers in [0, 1) (mulberry32): the same seed gives the same traffic everywhere. */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** What one side sends next: a number of pattern bytes, or bytes. */
export interface Turn {
  from: 'client' | 'server';
  data: number | Uint8Array;
}

export interface ConversationOptions {
  /** Addresses of either family; both of the same one. */
  client?: { address: string; port: number };
  server?: { address: string; port: number };
  /** Tags from the outermost on. */
  vlans?: number[];
  turns?: Turn[];
  mss?: number;
  /** Initial sequence numbers. */
  clientSeq?: number;
  serverSeq?: number;
  /** How it ends; `none` leaves it open. */
  close?: 'client-fin' | 'server-fin' | 'client-rst' | 'server-rst' | 'none';
  /** Shares of the data segments that are sent a second time, or exchanged with the next one. */
  retransmit?: number;
  reorder?: number;
  seed?: number;
  /** Time of the first packet and between two packets, in seconds. */
  start?: number;
  gap?: number;
}

interface Segment {
  fromClient: boolean;
  seq: number;
  ack: number;
  flags: string;
  data: Uint8Array;
  options?: TcpOption[];
}

const FIN_FROM_CLIENT = {
  'client-fin': true,
  'server-fin': false,
  'client-rst': undefined,
  'server-rst': undefined,
  none: undefined,
};

/**
 * A whole TCP connection as frames in the order of capture: handshake, data both ways in segments of `mss` with an
 * acknowledgement for every second one, and the close. For tests and benchmarks; what the endpoints would do
 * about loss is not modelled.
 */
export function conversation(options: ConversationOptions = {}): (FrameToWrite & { ts: number })[] {
  const segments = new Segments(options);
  segments.open();
  for (const turn of options.turns ?? []) segments.send(turn);
  segments.shut(options.close ?? 'client-fin');
  const frame = framer(options);
  const gap = options.gap ?? 0.001;
  const start = options.start ?? 1_700_000_000;
  return segments.disturbed().map((segment, index) => ({ ts: start + index * gap, bytes: frame(segment) }));
}

class Segments {
  readonly #list: Segment[] = [];
  readonly #mss: number;
  readonly #options: ConversationOptions;
  readonly #next: { client: number; server: number };
  readonly #sent = { client: 0, server: 0 };

  constructor(options: ConversationOptions) {
    this.#options = options;
    this.#mss = options.mss ?? 1448;
    this.#next = { client: options.clientSeq ?? 1000, server: options.serverSeq ?? 500_000 };
  }

  open(): void {
    const syn: TcpOption[] = [{ mss: this.#mss }, { sackPermitted: true }, { nop: true }, { windowScale: 7 }];
    this.#add('client', 'S', 0, syn);
    this.#next.client = (this.#next.client + 1) >>> 0;
    this.#add('server', 'SA', 0, syn);
    this.#next.server = (this.#next.server + 1) >>> 0;
    this.#add('client', 'A', 0);
  }

  send(turn: Turn): void {
    const total = typeof turn.data === 'number' ? turn.data : turn.data.length;
    const peer = turn.from === 'client' ? 'server' : 'client';
    for (let at = 0, n = 1; at < total; at += this.#mss, n++) {
      const size = Math.min(this.#mss, total - at);
      const data =
        typeof turn.data === 'number'
          ? pattern(size, this.#sent[turn.from] % 251)
          : turn.data.subarray(at, at + size);
      this.#sent[turn.from] += size;
      this.#add(turn.from, at + size === total ? 'PA' : 'A', data);
      if (n % 2 === 0 || at + size === total) this.#add(peer, 'A', 0);
    }
  }

  shut(how: NonNullable<ConversationOptions['close']>): void {
    if (how === 'none') return;
    const clientFirst = FIN_FROM_CLIENT[how];
    if (clientFirst === undefined) {
      this.#add(how === 'client-rst' ? 'client' : 'server', 'RA', 0);
      return;
    }
    const first = clientFirst ? 'client' : 'server';
    const second = clientFirst ? 'server' : 'client';
    for (const side of [first, second] as const) {
      this.#add(side, 'FA', 0);
      this.#next[side] = (this.#next[side] + 1) >>> 0;
    }
    this.#add(first, 'A', 0);
  }

  /** The segments with repeats and exchanges put in, by the seed. */
  disturbed(): Segment[] {
    const random = seeded(this.#options.seed ?? 1);
    const out: Segment[] = [];
    for (const segment of this.#list) {
      out.push(segment);
      if (segment.data.length === 0) continue;
      if (random() < (this.#options.retransmit ?? 0)) out.push(segment);
      const before = out.length - 2;
      if (random() < (this.#options.reorder ?? 0) && before >= 0 && out[before].data.length > 0) {
        [out[before], out[before + 1]] = [out[before + 1], out[before]];
      }
    }
    return out;
  }

  #add(from: 'client' | 'server', flags: string, data: Uint8Array | 0, options?: TcpOption[]): void {
    const fromClient = from === 'client';
    const bytes = data === 0 ? new Uint8Array(0) : data;
    this.#list.push({
      fromClient,
      seq: this.#next[from],
      ack: flags === 'S' ? 0 : this.#next[fromClient ? 'server' : 'client'],
      flags,
      data: bytes,
      ...(options === undefined ? {} : { options }),
    });
    this.#next[from] = (this.#next[from] + bytes.length) >>> 0;
  }
}

function framer(options: ConversationOptions): (segment: Segment) => Uint8Array {
  const client = options.client ?? { address: '10.0.0.1', port: 40_000 };
  const server = options.server ?? { address: '10.0.0.2', port: 80 };
  const stack = (fromClient: boolean): PacketBuilder => {
    const [from, to] = fromClient ? [client, server] : [server, client];
    const [a, b] = ['02:00:00:00:00:01', '02:00:00:00:00:02'];
    let builder = fromClient ? eth({ src: a, dst: b }) : eth({ src: b, dst: a });
    for (const id of options.vlans ?? []) builder = builder.vlan(id);
    const ends = { src: from.address, dst: to.address };
    return from.address.includes(':') ? builder.ipv6(ends) : builder.ipv4(ends);
  };
  const stacks = { true: stack(true), false: stack(false) };
  return (segment) => {
    const [from, to] = segment.fromClient ? [client, server] : [server, client];
    return stacks[segment.fromClient ? 'true' : 'false']
      .tcp({
        sport: from.port,
        dport: to.port,
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        ...(segment.options === undefined ? {} : { options: segment.options }),
      })
      .payload(segment.data)
      .bytes();
  };
}
