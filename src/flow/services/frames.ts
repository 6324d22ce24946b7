import { ServiceNews } from './service.ts';
import { isOver, PassingSide, TcpParser } from './tcp-parser.ts';

const MAX_HEADER = 24;

/** What `header` answers for a header that cannot be one. */
export const BAD_HEADER = -1;

/** What `header` answers when it needs that many bytes in all (at most 24). */
export function wants(bytes: number): number {
  return -1 - bytes;
}

class FrameSide extends PassingSide {
  readonly header = new Uint8Array(MAX_HEADER);
  /** Bytes of the header that are needed; 0 before it is known. */
  wanted = 0;
  inBody = false;
  /** Bytes of the header or body that are there. */
  have = 0;
  /** Length of the body. */
  length = 0;
  body: Uint8Array | undefined;
}

/**
 * What recognizers of binary protocols over TCP have in common: cuts both streams into messages, a header that tells the
 * length and a body of which the first `keep` bytes are looked at.
 */
export abstract class FrameParser extends TcpParser {
  readonly #keep: number;
  readonly #sides: readonly [FrameSide, FrameSide] = [new FrameSide(), new FrameSide()];

  constructor(keep: number) {
    super();
    this.#keep = keep;
  }

  /** Length of the header that comes next. */
  protected abstract headerBytes(fromOrig: 0 | 1): number;
  /** Reads a header of `bytes` bytes; answers the length of the body, BAD_HEADER or wants(). */
  protected abstract header(fromOrig: 0 | 1, u8: Uint8Array, bytes: number): number;
  /** A body of `length` bytes, whose first ones are u8[at, at + kept); answers ServiceNews bits. */
  protected abstract message(
    fromOrig: 0 | 1,
    u8: Uint8Array,
    at: number,
    kept: number,
    length: number,
  ): number;

  protected read(fromOrig: 0 | 1, u8: Uint8Array, from: number, end: number): number {
    const side = this.#sides[fromOrig];
    let news = 0;
    let at = from;
    while (at < end) {
      if (side.skip > 0) {
        at = side.pass(at, end);
        continue;
      }
      if (!side.inBody) {
        if (side.wanted === 0) side.wanted = this.headerBytes(fromOrig);
        while (at < end && side.have < side.wanted) side.header[side.have++] = u8[at++];
        if (side.have < side.wanted) break;
        const body = this.header(fromOrig, side.header, side.have);
        if (body < BAD_HEADER) {
          side.wanted = -1 - body;
          continue;
        }
        if (body === BAD_HEADER) return news | ServiceNews.rejected;
        side.inBody = true;
        side.length = body;
        side.have = 0;
        if (body > 0) continue;
      }
      const kept = Math.min(side.length, this.#keep);
      if (side.have === 0 && end - at >= kept) {
        news |= this.message(fromOrig, u8, at, kept, side.length);
        at += kept;
      } else {
        if (side.body === undefined || side.body.length < kept) side.body = new Uint8Array(kept);
        while (at < end && side.have < kept) side.body[side.have++] = u8[at++];
        if (side.have < kept) break;
        news |= this.message(fromOrig, side.body, 0, kept, side.length);
      }
      side.skip = side.length - kept;
      side.inBody = false;
      side.have = 0;
      side.wanted = 0;
      if (isOver(news)) {
        this.rest = Math.max(0, end - at - side.skip);
        return news;
      }
    }
    return news;
  }

  protected override release(): void {
    for (const side of this.#sides) side.body = undefined;
  }
}
