/** Where in a zstd stream something ends (RFC 8878 section 3). */
export const ZstdPart = {
  /** More bytes are needed to tell. */
  more: 0,
  /** A header or block of a frame. */
  inside: 1,
  /** The last part of a frame: what follows is another one, or the end. */
  last: 2,
  /** Bytes that hold no data. */
  skippable: 3,
  /** No zstd frame begins here. */
  none: 4,
} as const;
export type ZstdPart = (typeof ZstdPart)[keyof typeof ZstdPart];

const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
const MAX_BLOCK = 131_072;
const ID_BYTES = [0, 1, 2, 4] as const;
const SIZE_BYTES = [0, 2, 4, 8] as const;

/**
 * Cuts a zstd stream at the borders of its blocks and frames without unpacking it: a decompressor ends with its frame,
 * while a file may have many; and a damaged block must not cost the blocks before it.
 */
export class ZstdFrames {
  /** Length of the part that `next` has found, header included; with `more`, what it needs at least. */
  length = 0;
  #inFrame = false;
  #checksum = false;
  #trailer = false;

  /** Whether the stream may end here. */
  get between(): boolean {
    return !this.#inFrame;
  }

  /** Looks at the part at u8[at, end). */
  next(u8: Uint8Array, at: number, end: number): ZstdPart {
    const left = end - at;
    if (this.#trailer) return this.#part(4, left, () => this.#endOfFrame());
    if (!this.#inFrame) return this.#header(u8, at, left);
    if (left < 3) return this.#more(3);
    const head = u8[at] | (u8[at + 1] << 8) | (u8[at + 2] << 16);
    const last = (head & 1) === 1;
    const type = (head >>> 1) & 3;
    const size = head >>> 3;
    // The library refuses what is too large; here it only must not cost memory.
    if (size > MAX_BLOCK && type !== 1) return ZstdPart.none;
    return this.#part(3 + (type === 1 ? 1 : size), left, () => {
      if (!last) return ZstdPart.inside;
      if (!this.#checksum) return this.#endOfFrame();
      this.#trailer = true;
      return ZstdPart.inside;
    });
  }

  #header(u8: Uint8Array, at: number, left: number): ZstdPart {
    if (left < 8) return this.#more(8);
    const view = new DataView(u8.buffer, u8.byteOffset + at, 8);
    const magic = view.getUint32(0, true);
    if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE) {
      this.length = 8 + view.getUint32(4, true);
      return ZstdPart.skippable;
    }
    if (magic !== MAGIC) return ZstdPart.none;
    const descriptor = u8[at + 4];
    const single = (descriptor & 0x20) !== 0;
    const sizeCode = descriptor >>> 6;
    const sizeBytes = sizeCode === 0 && single ? 1 : SIZE_BYTES[sizeCode];
    return this.#part(5 + (single ? 0 : 1) + ID_BYTES[descriptor & 3] + sizeBytes, left, () => {
      this.#inFrame = true;
      this.#checksum = (descriptor & 4) !== 0;
      return ZstdPart.inside;
    });
  }

  #endOfFrame(): ZstdPart {
    this.#inFrame = false;
    this.#trailer = false;
    return ZstdPart.last;
  }

  #part(length: number, left: number, whole: () => ZstdPart): ZstdPart {
    this.length = length;
    return left < length ? ZstdPart.more : whole();
  }

  #more(length: number): ZstdPart {
    this.length = length;
    return ZstdPart.more;
  }
}
