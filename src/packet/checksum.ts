/**
 * The Internet checksum (RFC 1071) and CRC-32C (RFC 3309), quick and without allocation. All offsets and lengths are
 * clamped to the array, so that no caller can make it throw.
 */

/** Sums stay below 2^31 for this many bytes: 4 words of at most 65535 per 16 bytes. */
const FOLD_EVERY = 65_536;

// One view per buffer, made when the buffer changes: sources keep theirs for millions of packets.
let viewed: ArrayBufferLike | undefined;
let view: DataView = new DataView(new ArrayBuffer(0));

/** Folds a sum of 16-bit words into 16 bits with end-around carry. */
export function fold(sum: number): number {
  let folded = (sum & 0xffff) + Math.floor(sum / 65536);
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/**
 * One's complement sum, folded to 16 bits, of u8[offset, offset + length) as big-endian words, an odd last byte padded
 * with zero, added to `seed` (a sum of words too). The data carries a valid checksum when the result is 0xffff.
 */
export function onesSum(u8: Uint8Array, offset: number, length: number, seed = 0): number {
  const size = Math.min(length, u8.length - offset);
  if (size <= 0 || offset < 0) return fold(seed);
  const buffer = u8.buffer;
  if (buffer !== viewed) {
    viewed = buffer;
    view = new DataView(buffer);
  }
  const v = view;
  let at = u8.byteOffset + offset;
  const end = at + size;
  let total = 0;
  // Sums of little-endian words are the byte-swapped sums of big-endian ones: load four bytes at once, swap at the end.
  for (let stop = at; stop < end; ) {
    stop = Math.min(end, stop + FOLD_EVERY);
    const wide = at + ((stop - at) & ~15);
    let low = 0;
    let high = 0;
    for (; at < wide; at += 16) {
      const a = v.getInt32(at, true);
      const b = v.getInt32(at + 4, true);
      const c = v.getInt32(at + 8, true);
      const d = v.getInt32(at + 12, true);
      low = (low + (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff)) | 0;
      high = (high + (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16)) | 0;
    }
    for (; at + 1 < stop; at += 2) low = (low + v.getUint16(at, true)) | 0;
    if (at < stop) {
      low = (low + v.getUint8(at)) | 0;
      at++;
    }
    total += low + high;
  }
  const little = fold(total);
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
