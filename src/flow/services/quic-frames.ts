/** Frames of Initial packets (RFC 9000, section 19), and the bytes of their CRYPTO frames in order. */

const PADDING = 0x00;
const PING = 0x01;
const ACK = 0x02;
const ACK_ECN = 0x03;
const CRYPTO = 0x06;

/** A hello with post-quantum keys and many extensions has some 2 KiB. */
const MAX_CRYPTO = 16_384;
const MAX_RANGES = 64;
const MAX_ACK_RANGES = 1024;

/** Handshake bytes of one side, whatever the order in which they come. */
export class CryptoStream {
  bytes = new Uint8Array(0);
  /** Ends of the pieces that are there, in order: begin, end, begin, end, … */
  readonly #ranges: number[] = [];

  /** How many bytes from the beginning are there without a hole. */
  get ready(): number {
    return this.#ranges[0] === 0 ? this.#ranges[1] : 0;
  }

  /** False when there is more than can be kept. */
  add(offset: number, u8: Uint8Array, at: number, length: number): boolean {
    const end = offset + length;
    if (end > MAX_CRYPTO) return false;
    if (length === 0) return true;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(Math.min(MAX_CRYPTO, Math.max(2048, 2 * this.bytes.length, end)));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    for (let i = 0; i < length; i++) this.bytes[offset + i] = u8[at + i];
    return this.#merge(offset, end);
  }

  #merge(begin: number, end: number): boolean {
    const ranges = this.#ranges;
    let from = begin;
    let to = end;
    let first = 0;
    while (first < ranges.length && ranges[first + 1] < from) first += 2;
    let last = first;
    while (last < ranges.length && ranges[last] <= to) {
      from = Math.min(from, ranges[last]);
      to = Math.max(to, ranges[last + 1]);
      last += 2;
    }
    ranges.splice(first, last - first, from, to);
    return ranges.length <= 2 * MAX_RANGES;
  }
}

/** Reads variable-length integers (RFC 9000, section 16). */
export class VarInts {
  readonly #u8: Uint8Array;
  readonly #end: number;
  at: number;
  ok = true;

  constructor(u8: Uint8Array, at: number, end: number) {
    this.#u8 = u8;
    this.at = at;
    this.#end = end;
  }

  get left(): number {
    return this.#end - this.at;
  }

  /** 0 when it is not there whole; values are exact up to 2^53. */
  next(): number {
    if (this.left < 1) {
      this.ok = false;
      return 0;
    }
    const bytes = 1 << (this.#u8[this.at] >>> 6);
    if (this.left < bytes) {
      this.ok = false;
      return 0;
    }
    let value = this.#u8[this.at] & 0x3f;
    for (let i = 1; i < bytes; i++) value = value * 256 + this.#u8[this.at + i];
    this.at += bytes;
    return value;
  }

  skip(bytes: number): void {
    if (bytes > this.left) this.ok = false;
    else this.at += bytes;
  }
}

/** Puts what the CRYPTO frames carry into `stream`; false when the frames are damaged or too much. */
export function readFrames(frames: Uint8Array, stream: CryptoStream): boolean {
  const c = new VarInts(frames, 0, frames.length);
  while (c.ok && c.left > 0) {
    const type = frames[c.at++];
    if (type === PADDING || type === PING) continue;
    if (type === ACK || type === ACK_ECN) {
      c.next();
      c.next();
      const ranges = c.next();
      if (ranges > MAX_ACK_RANGES) return false;
      const numbers = 1 + 2 * ranges + (type === ACK_ECN ? 3 : 0);
      for (let i = 0; i < numbers && c.ok; i++) c.next();
    } else if (type === CRYPTO) {
      const offset = c.next();
      const length = c.next();
      const at = c.at;
      c.skip(length);
      if (!c.ok || !stream.add(offset, frames, at, length)) return false;
    } else {
      // CONNECTION_CLOSE, or what may not be in an Initial: nothing of interest follows.
      return true;
    }
  }
  return c.ok;
}
