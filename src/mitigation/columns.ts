/** Bytes that are kept of a sampled frame: Ethernet with tags, IP, TCP with all its options, and some payload. */
export const SAMPLE_HEAD = 128;

/** What a sample is a part of. */
export const Fragmented = { no: 0, first: 1, later: 2 } as const;

/**
 * Sampled packets by columns. Rows are overwritten, never moved: one instance is used for as long as a detector lives.
 * Offsets are into the row's part of `frames` (row * SAMPLE_HEAD); a value of 0 there says that the header is not in it.
 */
export class SampleColumns {
  readonly capacity: number;
  /** Rows in use, from 0. */
  count = 0;
  /** Nanoseconds since the epoch. A double holds them to 256 ns. */
  readonly time: Float64Array;
  /** Bytes of the frame on the wire. */
  readonly length: Uint32Array;
  /** Packets that the sample stands for: the N of 1 in N. */
  readonly weight: Float64Array;
  /** 4, 6, or 0: not IP. */
  readonly family: Uint8Array;
  /** Four words each in host order; of IPv4 the first three are 0. */
  readonly source: Uint32Array;
  readonly target: Uint32Array;
  readonly protocol: Uint8Array;
  /** 0 where there are none. */
  readonly sport: Uint16Array;
  readonly dport: Uint16Array;
  readonly tcpFlags: Uint8Array;
  readonly ttl: Uint8Array;
  /** Fragmented. */
  readonly fragment: Uint8Array;
  /** VLAN tags before IP. */
  readonly tags: Uint8Array;
  /** Bytes behind the transport header, as the IP header tells. */
  readonly payloadBytes: Uint16Array;
  /** Number of the interface, verdict of the gate and number of the rule, where the samples come from a gate. */
  readonly interface: Uint32Array;
  readonly verdict: Uint8Array;
  readonly rule: Uint32Array;
  readonly networkAt: Uint8Array;
  readonly transportAt: Uint8Array;
  readonly payloadAt: Uint8Array;
  /** Bytes of the frame that are there. */
  readonly captured: Uint8Array;
  readonly frames: Uint8Array;

  /** All columns, one after the other: what goes from one thread to another. */
  readonly buffer: ArrayBuffer;

  /** `buffer`: that of another instance with the same capacity, whose rows this one then has. */
  constructor(capacity: number, buffer = new ArrayBuffer(SampleColumns.bytes(capacity))) {
    this.capacity = capacity;
    this.buffer = buffer;
    // The widest first, so that each begins where it may.
    let at = 0;
    const next = (bytes: number): number => {
      const begin = at;
      at += bytes;
      return begin;
    };
    const f64 = (): Float64Array => new Float64Array(buffer, next(8 * capacity), capacity);
    const u32 = (words = 1): Uint32Array =>
      new Uint32Array(buffer, next(4 * words * capacity), words * capacity);
    const u16 = (): Uint16Array => new Uint16Array(buffer, next(2 * capacity), capacity);
    const u8 = (bytes = 1): Uint8Array => new Uint8Array(buffer, next(bytes * capacity), bytes * capacity);
    this.time = f64();
    this.weight = f64();
    this.length = u32();
    this.source = u32(4);
    this.target = u32(4);
    this.interface = u32();
    this.rule = u32();
    this.sport = u16();
    this.dport = u16();
    this.payloadBytes = u16();
    this.family = u8();
    this.protocol = u8();
    this.tcpFlags = u8();
    this.ttl = u8();
    this.fragment = u8();
    this.tags = u8();
    this.verdict = u8();
    this.networkAt = u8();
    this.transportAt = u8();
    this.payloadAt = u8();
    this.captured = u8();
    this.frames = u8(SAMPLE_HEAD);
  }

  /** Bytes of memory. */
  static bytes(capacity: number): number {
    return capacity * (2 * 8 + 11 * 4 + 3 * 2 + 11 + SAMPLE_HEAD);
  }

  /** Overwrites row `to` with a row of another instance. */
  copyRow(from: SampleColumns, row: number, to: number): void {
    this.time[to] = from.time[row];
    this.length[to] = from.length[row];
    this.weight[to] = from.weight[row];
    this.family[to] = from.family[row];
    for (let word = 0; word < 4; word++) {
      this.source[4 * to + word] = from.source[4 * row + word];
      this.target[4 * to + word] = from.target[4 * row + word];
    }
    this.protocol[to] = from.protocol[row];
    this.sport[to] = from.sport[row];
    this.dport[to] = from.dport[row];
    this.tcpFlags[to] = from.tcpFlags[row];
    this.ttl[to] = from.ttl[row];
    this.fragment[to] = from.fragment[row];
    this.tags[to] = from.tags[row];
    this.payloadBytes[to] = from.payloadBytes[row];
    this.interface[to] = from.interface[row];
    this.verdict[to] = from.verdict[row];
    this.rule[to] = from.rule[row];
    this.networkAt[to] = from.networkAt[row];
    this.transportAt[to] = from.transportAt[row];
    this.payloadAt[to] = from.payloadAt[row];
    this.captured[to] = from.captured[row];
    const at = row * SAMPLE_HEAD;
    const into = to * SAMPLE_HEAD;
    for (let i = 0; i < from.captured[row]; i++) this.frames[into + i] = from.frames[at + i];
  }

  /** Unsigned number of 1, 2 or 4 bytes at an offset of a row's frame; -1 where they were not captured. */
  number(row: number, at: number, size: number): number {
    if (at + size > this.captured[row]) return -1;
    const u8 = this.frames;
    const i = row * SAMPLE_HEAD + at;
    if (size === 1) return u8[i];
    if (size === 2) return (u8[i] << 8) | u8[i + 1];
    return ((u8[i] << 24) | (u8[i + 1] << 16) | (u8[i + 2] << 8) | u8[i + 3]) >>> 0;
  }
}

/** Rows of columns. */
export interface Rows {
  readonly columns: SampleColumns;
  readonly rows: readonly number[];
}
