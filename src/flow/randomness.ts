/** Bytes that are looked at, and the fewest that tell something. */
const MOST = 512;
export const LEAST_RANDOM_BYTES = 48;
/** Standard deviations that a figure may be off. */
const DEVIATIONS = 4;
const seen = new Uint8Array(32);

/**
 * Whether bytes look as encrypted or compressed ones do: as many ones as zeros among the bits, and as many different
 * bytes as chance gives. Text, numbers and most headers fail one of the two.
 */
export function looksRandom(u8: Uint8Array, offset: number, length: number): boolean {
  const count = Math.min(length, MOST);
  if (count < LEAST_RANDOM_BYTES) return false;
  seen.fill(0);
  let ones = 0;
  let different = 0;
  for (let i = 0; i < count; i++) {
    const byte = u8[offset + i];
    let bits = byte;
    bits -= (bits >>> 1) & 0x55;
    bits = (bits & 0x33) + ((bits >>> 2) & 0x33);
    ones += (bits + (bits >>> 4)) & 15;
    const bit = 1 << (byte & 7);
    if ((seen[byte >>> 3] & bit) === 0) {
      seen[byte >>> 3] |= bit;
      different++;
    }
  }
  if (Math.abs(ones - count * 4) > DEVIATIONS * Math.sqrt(count * 2)) return false;
  // Occupancy: of n bytes, 256 (1 - q) differ, q = (255/256)^n, with variance 256 (q + 255 (254/256)^n - 256 q^2).
  const q = (255 / 256) ** count;
  const variance = 256 * (q + 255 * (254 / 256) ** count - 256 * q * q);
  return different >= 256 * (1 - q) - DEVIATIONS * Math.sqrt(variance);
}
