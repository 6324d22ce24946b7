import { ServiceNews } from './service.ts';
import { isOver, PassingSide, TcpParser } from './tcp-parser.ts';

/** Bytes of a line that a parser gets to see; longer ones are cut. */
export const MAX_LINE = 512;
/** A first line that is longer is no line of a text protocol. */
const MAX_UNSURE_LINE = 4096;

const LF = 10;
const CR = 13;

class LineSide extends PassingSide {
  /** Length of the unfinished line, and its first bytes. */
  length = 0;
  buffer: Uint8Array | undefined;

  keep(u8: Uint8Array, from: number, end: number): void {
    this.buffer ??= new Uint8Array(MAX_LINE);
    const size = Math.min(end - from, MAX_LINE - this.length);
    for (let i = 0; i < size; i++) this.buffer[this.length + i] = u8[from + i];
    this.length += end - from;
  }
}

/**
 * What recognizers of line-based protocols have in common: cuts both streams into lines (LF ends them, CRs before it are
 * taken off), keeps at most MAX_LINE bytes per side, and turns away what is no text.
 */
export abstract class TextParser extends TcpParser {
  readonly #sides: readonly [LineSide, LineSide] = [new LineSide(), new LineSide()];

  /** One line of a side, u8[at, at + length), without its end; answers ServiceNews bits. */
  protected abstract line(fromOrig: 0 | 1, u8: Uint8Array, at: number, length: number): number;

  /** The next bytes of that side are no lines: literals, chunks of mail. */
  protected skip(fromOrig: 0 | 1, bytes: number): void {
    this.#sides[fromOrig].skip = bytes;
  }

  protected read(fromOrig: 0 | 1, u8: Uint8Array, from: number, end: number): number {
    const side = this.#sides[fromOrig];
    let news = 0;
    let at = from;
    while (at < end) {
      if (side.skip > 0) {
        at = side.pass(at, end);
        continue;
      }
      let to = at;
      while (to < end && u8[to] !== LF) to++;
      if (!this.sure && !isText(u8, at, to)) return news | ServiceNews.rejected;
      if (to === end) {
        side.keep(u8, at, end);
        if (!this.sure && side.length > MAX_UNSURE_LINE) return news | ServiceNews.rejected;
        break;
      }
      news |= this.#line(fromOrig, side, u8, at, to);
      at = to + 1;
      if (isOver(news)) {
        this.rest = end - at;
        return news;
      }
    }
    return news;
  }

  #line(fromOrig: 0 | 1, side: LineSide, u8: Uint8Array, from: number, to: number): number {
    let buffer = u8;
    let at = from;
    let length = to - from;
    if (side.length > 0) {
      side.keep(u8, from, to);
      buffer = side.buffer as Uint8Array;
      at = 0;
      length = side.length;
      side.length = 0;
    }
    if (length > MAX_LINE) length = MAX_LINE;
    while (length > 0 && buffer[at + length - 1] === CR) length--;
    return this.line(fromOrig, buffer, at, length);
  }
}

/** No control characters but TAB, FF, CR and ESC; telnet commands and other character sets may be there. */
function isText(u8: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    const byte = u8[i];
    if (byte < 0x20 && byte !== 9 && byte !== CR && byte !== 12 && byte !== 27) return false;
  }
  return true;
}
