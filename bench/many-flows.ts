import { closeSync, openSync, writeSync } from 'node:fs';
import { eth } from '../src/packet/build.ts';
import { checksum, pseudoSum } from '../src/packet/checksum.ts';
import { seeded } from '../src/packet/conversation.ts';
import { PcapWriter } from '../src/packet/pcap.ts';

export interface ManyFlowsOptions {
  /** Packets in all; 2,000,000 unless told. */
  packets?: number;
  /** Connections in all; 100,000 unless told. */
  flows?: number;
  /** Connections open at a time; 5,000 unless told. */
  concurrent?: number;
  /** Bytes of payload in a full data segment; 200 unless told (1448 is real, and makes a large file). */
  segment?: number;
  /** Share of connections over UDP, and over IPv6. */
  udp?: number;
  ipv6?: number;
  /** Packets a second of capture time. */
  rate?: number;
  seed?: number;
}

export interface ManyFlows {
  packets: number;
  flows: number;
  /** Size of the file. */
  bytes: number;
  /** Sum of the frames' lengths. */
  frameBytes: number;
}

const CHUNK = 8 * 1024 * 1024;
const START = 1_700_000_000;
/** Handshake, request, one answer, close; query and answer. */
const TCP_LEAST = 8;
const UDP_LEAST = 2;
const ETH = 14;

/**
 * Writes a pcap file of many interleaved connections: TCP with handshake, a request, data from the server acknowledged
 * every second segment, and a close by FIN; UDP as questions and answers. Lengths of connections are heavy-tailed.
 * The same options give the same bytes. Checksums are right.
 */
export function writeManyFlows(path: string, options: ManyFlowsOptions = {}): ManyFlows {
  const traffic = new Traffic(options);
  const fd = openSync(path, 'w');
  try {
    return traffic.write((bytes) => {
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at);
    });
  } finally {
    closeSync(fd);
  }
}

/** A frame whose addresses, ports, numbers and length are filled in for each packet. */
interface Template {
  frame: Uint8Array;
  view: DataView;
  ipv6: boolean;
  udp: boolean;
  /** Where the transport header begins. */
  transport: number;
  headers: number;
}

function template(ipv6: boolean, udp: boolean, payload: number): Template {
  const ip = ipv6 ? eth().ipv6() : eth().ipv4();
  const frame = (udp ? ip.udp() : ip.tcp()).payload(payload).bytes();
  const transport = ETH + (ipv6 ? 40 : 20);
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  return { frame, view, ipv6, udp, transport, headers: transport + (udp ? 8 : 20) };
}

class Traffic {
  readonly #total: number;
  readonly #flows: number;
  readonly #concurrent: number;
  readonly #segment: number;
  readonly #gap: number;
  readonly #random: () => number;
  readonly #templates: Template[];
  /** Of each flow: packets to send, packets sent, next sequence number of client and server, bit 0 UDP and bit 1 IPv6. */
  readonly #length: Uint32Array;
  readonly #sent: Uint32Array;
  readonly #seq: Uint32Array;
  readonly #kind: Uint8Array;
  readonly #out = new Uint8Array(CHUNK);
  readonly #outView = new DataView(this.#out.buffer);
  #at = 0;

  constructor(options: ManyFlowsOptions) {
    this.#flows = options.flows ?? 100_000;
    this.#total = options.packets ?? 2_000_000;
    if (this.#total < this.#flows * TCP_LEAST) {
      throw new RangeError(`${this.#flows} connections need at least ${this.#flows * TCP_LEAST} packets`);
    }
    this.#concurrent = Math.min(this.#flows, options.concurrent ?? 5000);
    this.#segment = options.segment ?? 200;
    this.#gap = 1 / (options.rate ?? 200_000);
    this.#random = seeded(options.seed ?? 1);
    this.#templates = [0, 1, 2, 3].map((kind) => template((kind & 2) !== 0, (kind & 1) !== 0, this.#segment));
    this.#length = new Uint32Array(this.#flows);
    this.#sent = new Uint32Array(this.#flows);
    this.#seq = new Uint32Array(2 * this.#flows);
    this.#kind = new Uint8Array(this.#flows);
    this.#plan(options.udp ?? 0.2, options.ipv6 ?? 0.1);
  }

  /** Gives every flow its kind and its length: the least that it needs, and a heavy-tailed share of the rest. */
  #plan(udp: number, ipv6: number): void {
    const random = this.#random;
    const weights = new Float64Array(this.#flows);
    let rest = this.#total;
    let sum = 0;
    let last = 0;
    for (let flow = 0; flow < this.#flows; flow++) {
      const isUdp = random() < udp;
      this.#kind[flow] = (isUdp ? 1 : 0) | (random() < ipv6 ? 2 : 0);
      this.#length[flow] = isUdp ? UDP_LEAST : TCP_LEAST;
      rest -= this.#length[flow];
      this.#seq[2 * flow] = random() * 2 ** 32;
      this.#seq[2 * flow + 1] = random() * 2 ** 32;
      // Pareto with a tail index of 1.2, cut off; UDP stays as short as name look-ups are.
      weights[flow] = isUdp ? 0 : Math.min(20_000, (1 - random()) ** (-1 / 1.2));
      sum += weights[flow];
      if (!isUdp) last = flow;
    }
    let left = rest;
    const unit = sum > 0 ? rest / sum : 0;
    for (let flow = 0; flow < this.#flows; flow++) {
      const more = Math.min(left, Math.floor(unit * weights[flow]));
      this.#length[flow] += more;
      left -= more;
    }
    this.#length[last] += left;
  }

  write(sink: (bytes: Uint8Array) => void): ManyFlows {
    const header = new PcapWriter().header();
    this.#out.set(header, 0);
    this.#at = header.length;
    const active = new Uint32Array(this.#concurrent);
    for (let i = 0; i < active.length; i++) active[i] = i;
    let next = this.#concurrent;
    let open = this.#concurrent;
    let bytes = 0;
    let frameBytes = 0;
    for (let n = 0; n < this.#total; n++) {
      const place = Math.floor(this.#random() * open);
      const flow = active[place];
      frameBytes += this.#packet(flow, START + n * this.#gap);
      if (this.#sent[flow] === this.#length[flow]) {
        if (next < this.#flows) active[place] = next++;
        else active[place] = active[--open];
      }
      if (this.#at > CHUNK - 65_536) {
        sink(this.#out.subarray(0, this.#at));
        bytes += this.#at;
        this.#at = 0;
      }
    }
    sink(this.#out.subarray(0, this.#at));
    return { packets: this.#total, flows: this.#flows, bytes: bytes + this.#at, frameBytes };
  }

  /** Appends the flow's next packet; returns the length of the frame. */
  #packet(flow: number, ts: number): number {
    const index = this.#sent[flow]++;
    const { frame, view, ipv6, udp, transport, headers } = this.#templates[this.#kind[flow]];
    const step = udp ? udpStep(index) : tcpStep(index, this.#length[flow]);
    const fromClient = (step & FROM_CLIENT) !== 0;
    const payload = (step & DATA) === 0 ? 0 : fromClient ? Math.min(80, this.#segment) : this.#segment;
    const size = headers + payload;
    this.#address(view, ipv6, flow, fromClient);
    view.setUint16(transport + (fromClient ? 0 : 2), 1024 + (flow % 64_000));
    view.setUint16(transport + (fromClient ? 2 : 0), udp ? 53 : 443);
    if (ipv6) view.setUint16(ETH + 4, size - ETH - 40);
    else this.#ipv4(view, frame, size);
    if (udp) view.setUint16(transport + 4, size - transport);
    else this.#tcp(view, transport, flow, step, payload);
    const field = transport + (udp ? 6 : 16);
    view.setUint16(field, 0);
    const length = size - transport;
    const seed = pseudoSum(frame, ETH + (ipv6 ? 8 : 12), ipv6 ? 16 : 4, udp ? 17 : 6, length);
    view.setUint16(field, checksum(frame, transport, length, seed) || 0xffff);
    this.#record(ts, frame, size);
    return size;
  }

  #address(view: DataView, ipv6: boolean, flow: number, fromClient: boolean): void {
    const client = (10 << 24) | (flow & 0xffffff);
    const server = (172 << 24) | (16 << 16) | (Math.imul(flow, 0x9e3779b1) >>> 20);
    const at = ETH + (ipv6 ? 20 : 12);
    const size = ipv6 ? 16 : 4;
    view.setUint32(at, fromClient ? client : server);
    view.setUint32(at + size, fromClient ? server : client);
  }

  #ipv4(view: DataView, frame: Uint8Array, size: number): void {
    view.setUint16(ETH + 2, size - ETH);
    view.setUint16(ETH + 10, 0);
    view.setUint16(ETH + 10, checksum(frame, ETH, 20));
  }

  #tcp(view: DataView, transport: number, flow: number, step: number, payload: number): void {
    const mine = 2 * flow + ((step & FROM_CLIENT) === 0 ? 1 : 0);
    const peer = mine ^ 1;
    const flags = step & 0xff;
    view.setUint32(transport + 4, this.#seq[mine]);
    view.setUint32(transport + 8, flags === SYN ? 0 : this.#seq[peer]);
    view.setUint8(transport + 13, flags);
    this.#seq[mine] += payload + ((flags & (SYN | FIN)) === 0 ? 0 : 1);
  }

  #record(ts: number, frame: Uint8Array, size: number): void {
    const view = this.#outView;
    const at = this.#at;
    const seconds = Math.floor(ts);
    view.setUint32(at, seconds, true);
    view.setUint32(at + 4, Math.min(999_999, Math.round((ts - seconds) * 1e6)), true);
    view.setUint32(at + 8, size, true);
    view.setUint32(at + 12, size, true);
    this.#out.set(size === frame.length ? frame : frame.subarray(0, size), at + 16);
    this.#at = at + 16 + size;
  }
}

const FIN = 1;
const SYN = 2;
const ACK = 16;
const PSH = 8;
const FROM_CLIENT = 0x100;
const DATA = 0x200;

function udpStep(index: number): number {
  return DATA | (index % 2 === 0 ? FROM_CLIENT : 0);
}

/** What the packet number `index` of a connection of `length` packets is: TCP flags, direction, data or none. */
function tcpStep(index: number, length: number): number {
  if (index === 0) return FROM_CLIENT | SYN;
  if (index === 1) return SYN | ACK;
  if (index === 2) return FROM_CLIENT | ACK;
  if (index === 3) return FROM_CLIENT | DATA | PSH | ACK;
  const fromEnd = length - 1 - index;
  if (fromEnd === 2) return FIN | ACK;
  if (fromEnd === 1) return FROM_CLIENT | FIN | ACK;
  if (fromEnd === 0) return ACK;
  return (index - 4) % 3 === 2 ? FROM_CLIENT | ACK : DATA | ACK;
}
