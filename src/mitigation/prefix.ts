import { ipText } from '../packet/address.ts';

/** An address prefix: four words in host order, of IPv4 only the last; `bits` of the family's own length. */
export interface Prefix {
  readonly family: 4 | 6;
  readonly words: Uint32Array;
  readonly bits: number;
}

/** Prefix lengths that traffic is summed up by, the most exact first. */
export const LEVELS: Readonly<Record<4 | 6, readonly number[]>> = { 4: [32, 24, 16], 6: [128, 64, 48, 32] };

/** Bits of word `word` (0 to 3) that a prefix of this length keeps. */
export function maskOf(family: 4 | 6, bits: number, word: number): number {
  const kept = family === 4 ? (word === 3 ? bits : 32) : Math.max(0, Math.min(32, bits - 32 * word));
  return kept === 0 ? 0 : (0xffffffff << (32 - kept)) >>> 0;
}

/** Whether an address, at words[4 * row], is in the prefix. */
export function within(prefix: Prefix, family: number, words: Uint32Array, row: number): boolean {
  if (family !== prefix.family) return false;
  for (let i = prefix.family === 4 ? 3 : 0; i < 4; i++)
    if (((words[4 * row + i] ^ prefix.words[i]) & maskOf(prefix.family, prefix.bits, i)) !== 0) return false;
  return true;
}

/** Whether one of two prefixes holds the other. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  const wider = a.bits <= b.bits ? a : b;
  const other = wider === a ? b : a;
  return within(wider, other.family, other.words, 0);
}

export function addressText(family: 4 | 6, words: Uint32Array, row: number): string {
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 4; i++)
    for (let b = 0; b < 4; b++) bytes[4 * i + b] = words[4 * row + i] >>> (24 - 8 * b);
  return family === 4 ? ipText(bytes, 12, 4) : ipText(bytes, 0, 16);
}

/** `192.0.2.7`, `192.0.2.0/24`. */
export function prefixText(prefix: Prefix): string {
  const whole = prefix.bits === (prefix.family === 4 ? 32 : 128);
  const address = addressText(prefix.family, prefix.words, 0);
  return whole ? address : `${address}/${prefix.bits}`;
}

/** The longest prefix that holds all of these addresses (rows of `words`), not shorter than `least` bits. */
export function commonPrefix(
  family: 4 | 6,
  words: Uint32Array,
  rows: readonly number[],
  least: number,
): Prefix {
  let bits = family === 4 ? 32 : 128;
  const [first] = rows;
  const fits = (row: number): boolean => {
    for (let i = 0; i < 4; i++)
      if (((words[4 * row + i] ^ words[4 * first + i]) & maskOf(family, bits, i)) !== 0) return false;
    return true;
  };
  for (const row of rows) while (bits > least && !fits(row)) bits--;
  const cut = new Uint32Array(4);
  for (let i = family === 4 ? 3 : 0; i < 4; i++)
    cut[i] = (words[4 * first + i] & maskOf(family, bits, i)) >>> 0;
  return { family, words: cut, bits };
}
