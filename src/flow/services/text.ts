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

/** Letters as upper case. */
function upper(byte: number): number {
  return byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte;
}

/** Whether what is there of u8[offset, offset + length) fits the beginning `text` (given in upper case). */
export function mayBegin(u8: Uint8Array, offset: number, length: number, text: string): boolean {
  const size = Math.min(length, text.length);
  for (let i = 0; i < size; i++) if (upper(u8[offset + i]) !== text.charCodeAt(i)) return false;
  return size > 0;
}

/** Whether u8[offset, offset + length) begins with `text` (given in upper case). */
export function begins(u8: Uint8Array, offset: number, length: number, text: string): boolean {
  return length >= text.length && mayBegin(u8, offset, length, text);
}

/** Whether `text` (given in upper case) occurs in u8[offset, offset + length). */
export function contains(u8: Uint8Array, offset: number, length: number, text: string): boolean {
  for (let at = 0; at + text.length <= length; at++)
    if (mayBegin(u8, offset + at, text.length, text)) return true;
  return false;
}

/** First place after blanks, at most the end. */
export function skipBlanks(u8: Uint8Array, at: number, end: number): number {
  let to = at;
  while (to < end && (u8[to] === 0x20 || u8[to] === 9)) to++;
  return to;
}

/** End of the word that begins at `at`. */
export function wordEnd(u8: Uint8Array, at: number, end: number): number {
  let to = at;
  while (to < end && u8[to] !== 0x20 && u8[to] !== 9) to++;
  return to;
}

/** A word in upper case; empty when there is none, it is longer than `limit` or has other than printable ASCII. */
export function upperWord(u8: Uint8Array, at: number, end: number, limit = 16): string {
  const to = wordEnd(u8, at, end);
  if (to - at > limit) return '';
  let word = '';
  for (let i = at; i < to; i++) {
    if (u8[i] <= 0x20 || u8[i] >= 0x7f) return '';
    word += String.fromCharCode(upper(u8[i]));
  }
  return word;
}

/** The reply code of three digits at the beginning of a line; -1 when there is none. */
export function replyCode(u8: Uint8Array, at: number, length: number): number {
  if (length < 3) return -1;
  let code = 0;
  for (let i = 0; i < 3; i++) {
    const digit = u8[at + i] - 0x30;
    if (digit < 0 || digit > 9) return -1;
    code = code * 10 + digit;
  }
  return code;
}

/** A decimal number that fills u8[at, end); -1 when it is none or above `limit`. */
export function decimal(u8: Uint8Array, at: number, end: number, limit: number): number {
  if (at >= end) return -1;
  let value = 0;
  for (let i = at; i < end; i++) {
    const digit = u8[i] - 0x30;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
    if (value > limit) return -1;
  }
  return value;
}
