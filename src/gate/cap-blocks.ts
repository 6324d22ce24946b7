import { type InterfaceToWrite, PcapngWriter } from '../packet/pcapng-writer.ts';

/** Block types and options of pcapng (draft-ietf-opsawg-pcapng). */
const ENHANCED_PACKET = 6;
const INTERFACE_STATISTICS = 5;
const OPTION_COMMENT = 1;
const OPTION_RECEIVED = 4;
const OPTION_DROPPED = 5;
const OPTION_ACCEPTED = 6;
const OPTION_VERDICT = 7;
/** Type of a verdict that is an XDP action. */
const VERDICT_XDP = 2;

/** Offsets in an enhanced packet block. */
const EPB_INTERFACE = 8;
const EPB_TIME_HIGH = 12;
const EPB_TIME_LOW = 16;
const EPB_CAPTURED = 20;
const EPB_LENGTH = 24;
const EPB_DATA = 28;
/** The verdict option: header, type, action, padding. */
const VERDICT_BYTES = 16;
const END_BYTES = 4;
const TRAILER_BYTES = 4;

const aligned = (length: number): number => (length + 3) & ~3;

/** A packet, as it stands in the ring. */
export interface CapturedPacket {
  interfaceId: number;
  action: number;
  /** CLOCK_MONOTONIC ns, in halves. */
  timeHigh: number;
  timeLow: number;
  length: number;
  captured: number;
  /** Of `memory`. */
  offset: number;
  memory: Uint8Array;
  /** A comment option, made by `comment`; empty for none. */
  comment: Uint8Array;
}

export const NO_COMMENT = new Uint8Array(0);

/** What an interface has seen, for the statistics at the end of a file. */
export interface InterfaceCounts {
  received: number;
  dropped: number;
  accepted: number;
}

/** Encodes packets with their XDP verdict into memory that is there already. */
export class PacketBlocks {
  readonly header: Uint8Array;
  readonly #writer: PcapngWriter;
  #offsetHigh = 0;
  #offsetLow = 0;

  constructor(interfaces: InterfaceToWrite[], application: string) {
    const nano = interfaces.map((each) => ({ ...each, nano: true }));
    this.#writer = new PcapngWriter({ interfaces: nano, application });
    this.header = this.#writer.header();
  }

  /** Seconds from CLOCK_MONOTONIC to the time of day. */
  setClock(offset: number): void {
    const ns = BigInt(Math.round(offset * 1e9));
    this.#offsetHigh = Number(ns >> 32n);
    this.#offsetLow = Number(ns & 0xffffffffn);
  }

  comment(text: string): Uint8Array {
    return this.#writer.option(OPTION_COMMENT, new TextEncoder().encode(text));
  }

  size(packet: CapturedPacket): number {
    return (
      EPB_DATA + aligned(packet.captured) + VERDICT_BYTES + packet.comment.length + END_BYTES + TRAILER_BYTES
    );
  }

  /** Writes a packet at `at`, which is a multiple of four; it takes `size` bytes. */
  write(packet: CapturedPacket, to: Uint8Array, view: DataView, at: number): void {
    const { captured, comment } = packet;
    const size = this.size(packet);
    const low = packet.timeLow + this.#offsetLow;
    view.setUint32(at, ENHANCED_PACKET, true);
    view.setUint32(at + 4, size, true);
    view.setUint32(at + EPB_INTERFACE, packet.interfaceId, true);
    view.setUint32(at + EPB_TIME_HIGH, packet.timeHigh + this.#offsetHigh + (low > 0xffffffff ? 1 : 0), true);
    view.setUint32(at + EPB_TIME_LOW, low, true);
    view.setUint32(at + EPB_CAPTURED, captured, true);
    view.setUint32(at + EPB_LENGTH, packet.length, true);
    to.set(packet.memory.subarray(packet.offset, packet.offset + captured), at + EPB_DATA);
    let next = at + EPB_DATA + captured;
    const end = at + EPB_DATA + aligned(captured);
    while (next < end) to[next++] = 0;
    to.set(comment, next);
    next += comment.length;
    view.setUint16(next, OPTION_VERDICT, true);
    view.setUint16(next + 2, 9, true);
    to[next + 4] = VERDICT_XDP;
    view.setUint32(next + 5, packet.action, true);
    view.setUint32(next + 9, 0, true);
    to.fill(0, next + 13, next + VERDICT_BYTES + END_BYTES);
    view.setUint32(at + size - TRAILER_BYTES, size, true);
  }

  /** Statistics of an interface; `now` is seconds since the epoch. */
  statistics(interfaceId: number, counts: InterfaceCounts, now: number): Uint8Array {
    const body = new Uint8Array(12);
    const view = new DataView(body.buffer);
    const ns = BigInt(Math.round(now * 1e6)) * 1000n;
    view.setUint32(0, interfaceId, true);
    view.setUint32(4, Number(ns >> 32n), true);
    view.setUint32(8, Number(ns & 0xffffffffn), true);
    const count = (code: number, value: number): Uint8Array => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
      return this.#writer.option(code, bytes);
    };
    return this.#writer.block(INTERFACE_STATISTICS, body, [
      count(OPTION_RECEIVED, counts.received),
      count(OPTION_DROPPED, counts.dropped),
      count(OPTION_ACCEPTED, counts.accepted),
    ]);
  }
}
