/** Words, numbers and beginnings of text protocols, without strings; letters of either case are the same. */

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

/** The reply codes that servers of news greet with, as no other text protocol with such codes does. */
export function isNews(code: number): boolean {
  return code === 200 || code === 201;
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

export function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
