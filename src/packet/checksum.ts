import { viewOf } from './view.ts';

/**
 * The Internet checksum (RFC 1071) and CRC-32C (RFC 3309), quick and without allocation. All offsets and lengths are
 * clamped to the array, so that no caller can make it throw.
 */

/** Sums of 16-bit words stay below 2^32 for this many bytes. */
const FOLD_EVERY = 65_536;

/** Folds a sum of 16-bit words, below 2^32, into 16 bits with end-around carry. */
export function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/**
 * Sum of view[at, at + bytes) as little-endian words, an odd last byte padded with zero; far below 2^32. The caller knows
 * that the bytes are there. It is the byte-swapped sum of big-endian words: a sum that is to be 0xffff is either way.
 */
export function littleSum(view: DataView, at: number, bytes: number): number {
  let total = 0;
  let here = at;
  const end = at + bytes;
  for (let stop = at; stop < end; ) {
    stop = Math.min(end, stop + FOLD_EVERY);
    let high = 0;
    let all = 0;
    for (const wide = stop - 15; here < wide; here += 16) {
      const a = view.getInt32(here, true);
      const b = view.getInt32(here + 4, true);
      const c = view.getInt32(here + 8, true);
      const d = view.getInt32(here + 12, true);
      high = (high + (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16)) | 0;
      all = (all + a + b + c + d) | 0;
    }
    // `all` has wrapped, but what it has in excess of the high halves has not.
    let low = (all - (high << 16)) | 0;
    for (; here + 1 < stop; here += 2) low = (low + view.getUint16(here, true)) | 0;
    if (here < stop) low = (low + view.getUint8(here++)) | 0;
    total += (low & 0xffff) + (low >>> 16) + (high & 0xffff) + (high >>> 16);
  }
  return total;
}

/**
 * One's complement sum, folded to 16 bits, of u8[offset, offset + length) as big-endian words, an odd last byte padded
 * with zero, added to `seed` (a sum of words too). The data carries a valid checksum when the result is 0xffff.
 */
export function onesSum(u8: Uint8Array, offset: number, length: number, seed = 0): number {
  const size = Math.min(length, u8.length - offset);
  if (size <= 0 || offset < 0) return fold(seed);
  const little = fold(littleSum(viewOf(u8), offset, size));
  return fold((((little & 0xff) << 8) | (little >>> 8)) + seed);
}

/** The checksum to put into a header whose checksum field is zero. */
export function checksum(u8: Uint8Array, offset: number, length: number, seed = 0): number {
  return ~onesSum(u8, offset, length, seed) & 0xffff;
}

/**
 * Sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), a seed for `onesSum`: the two addresses lie
 * one after the other at u8[addresses], `addressBytes` is the size of one (4 or 16), `length` that of the transport
 * header with its data.
 */
export function pseudoSum(
  u8: Uint8Array,
  addresses: number,
  addressBytes: number,
  protocol: number,
  length: number,
): number {
  return onesSum(u8, addresses, 2 * addressBytes, protocol + (length >>> 16) + (length & 0xffff));
}

const CRC32C = new Int32Array(256);
for (let n = 0; n < 256; n++) {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  CRC32C[n] = c;
}

/** CRC-32C of SCTP packets, as an unsigned number; the packet stores it in little-endian order. */
export function crc32c(u8: Uint8Array, offset: number, length: number): number {
  const end = Math.min(offset + length, u8.length);
  let c = -1;
  for (let i = offset; i < end; i++) c = CRC32C[(c ^ u8[i]) & 0xff] ^ (c >>> 8);
  return ~c >>> 0;
}
