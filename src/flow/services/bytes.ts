/** Numbers and texts in the middle of bytes; places are the caller's to check. */

export function u16be(u8: Uint8Array, at: number): number {
  return (u8[at] << 8) | u8[at + 1];
}

export function u16le(u8: Uint8Array, at: number): number {
  return u8[at] | (u8[at + 1] << 8);
}

export function u32be(u8: Uint8Array, at: number): number {
  return ((u8[at] << 24) | (u8[at + 1] << 16) | (u8[at + 2] << 8) | u8[at + 3]) >>> 0;
}

export function u32le(u8: Uint8Array, at: number): number {
  return (u8[at] | (u8[at + 1] << 8) | (u8[at + 2] << 16) | (u8[at + 3] << 24)) >>> 0;
}

/** Whether `text` (Latin-1) stands at u8[at, end). */
export function isAt(u8: Uint8Array, at: number, end: number, text: string): boolean {
  if (at < 0 || end - at < text.length) return false;
  for (let i = 0; i < text.length; i++) if (u8[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** Place of `text` (Latin-1) in u8[at, end); -1 when it is not there. */
export function find(u8: Uint8Array, at: number, end: number, text: string): number {
  for (let i = at; i + text.length <= end; i++) if (isAt(u8, i, end, text)) return i;
  return -1;
}
