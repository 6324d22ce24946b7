/** Lines of text protocols, without strings. */

const LF = 10;
const CR = 13;

/** Collects the lines of one direction; of a longer line only its beginning is kept. */
export class LineReader {
  readonly #limit: number;
  #kept: Uint8Array | undefined;
  #filled = 0;
  /** The line that `take` has finished, without its end: valid until the caller's bytes change or the next call. */
  u8: Uint8Array = new Uint8Array(0);
  offset = 0;
  length = 0;

  constructor(limit = 512) {
    this.#limit = limit;
  }

  /**
   * Reads from u8[at, end) up to the end of a line. Answers the index behind it, and the line is in the fields; or -1 when
   * the line goes on beyond `end`.
   */
  take(u8: Uint8Array, at: number, end: number): number {
    let stop = at;
    while (stop < end && u8[stop] !== LF) stop++;
    if (stop < end && this.#filled === 0) {
      this.#line(u8, at, Math.min(stop - at, this.#limit));
      return stop + 1;
    }
    this.#kept ??= new Uint8Array(this.#limit);
    const size = Math.min(stop - at, this.#limit - this.#filled);
    for (let i = 0; i < size; i++) this.#kept[this.#filled + i] = u8[at + i];
    this.#filled += size;
    if (stop >= end) return -1;
    this.#line(this.#kept, 0, this.#filled);
    this.#filled = 0;
    return stop + 1;
  }

  #line(u8: Uint8Array, offset: number, length: number): void {
    this.u8 = u8;
    this.offset = offset;
    this.length = length > 0 && u8[offset + length - 1] === CR ? length - 1 : length;
  }
}
