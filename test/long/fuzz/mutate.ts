import type { Input, Piece } from './input.ts';

type Random = () => number;

const below = (random: Random, limit: number) => Math.floor(random() * limit);
const INTERESTING = [0, 1, 2, 0x0a, 0x0d, 0x20, 0x30, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0x84, 0xc0, 0xff];
const LENGTHS = [0, 1, 7, 8, 127, 128, 255, 256, 4095, 16_383, 16_384, 32_767, 65_535];
const MAX_PIECES = 24;
const MAX_BYTES = 40_000;

function changed(bytes: Uint8Array, other: Uint8Array, random: Random): Uint8Array {
  const at = below(random, bytes.length + 1);
  const out = bytes.slice();
  switch (below(random, 9)) {
    case 0:
      if (at < out.length) out[at] = out[at] ^ (1 << below(random, 8));
      return out;
    case 1:
      if (at < out.length) out[at] = below(random, 256);
      return out;
    case 2:
      if (at < out.length) out[at] = INTERESTING[below(random, INTERESTING.length)];
      return out;
    case 3: {
      // A length of two or four bytes, in either order.
      const value = LENGTHS[below(random, LENGTHS.length)] + below(random, 3) - 1;
      if (at + 4 > out.length) return out;
      const view = new DataView(out.buffer);
      if (random() < 0.5) view.setUint16(at, value & 0xffff, random() < 0.5);
      else view.setUint32(at, random() < 0.2 ? 0xffffffff : value >>> 0, random() < 0.5);
      return out;
    }
    case 4:
      return out.subarray(0, at);
    case 5: {
      const size = below(random, Math.min(64, out.length - at) + 1);
      return Buffer.concat([out.subarray(0, at), out.subarray(at + size)]);
    }
    case 6: {
      // Repeated, often enough now and then to meet limits.
      const size = 1 + below(random, 40);
      const times = random() < 0.05 ? 300 : 1 + below(random, 4);
      const part = out.subarray(at, at + size);
      return Buffer.concat([
        out.subarray(0, at),
        ...Array.from({ length: times }, () => part),
        out.subarray(at),
      ]);
    }
    case 7: {
      const from = below(random, other.length + 1);
      return Buffer.concat([out.subarray(0, at), other.subarray(from, from + 1 + below(random, 60))]);
    }
    default: {
      const noise = Uint8Array.from({ length: 1 + below(random, 30) }, () => below(random, 256));
      return Buffer.concat([out.subarray(0, at), noise, out.subarray(at)]);
    }
  }
}

const cut = (bytes: Uint8Array) => (bytes.length > MAX_BYTES ? bytes.subarray(0, MAX_BYTES) : bytes);

/** An input with a few changes; parts of `other` come into it. */
export function mutate(input: Input, other: Input, ports: readonly number[], random: Random): Input {
  const pieces: Piece[] = input.pieces.map(({ from, bytes }) => ({ from, bytes }));
  let port = input.port;
  for (let times = 1 + Math.floor(random() ** 2 * 6); times > 0; times--) {
    const at = below(random, pieces.length);
    const piece = pieces[at];
    const donor = other.pieces[below(random, other.pieces.length)];
    switch (below(random, 12)) {
      case 0:
        pieces[at] = { from: piece.from === 1 ? 0 : 1, bytes: piece.bytes };
        break;
      case 1:
        pieces.splice(below(random, pieces.length + 1), 0, donor);
        break;
      case 2:
        if (pieces.length > 1) pieces.splice(at, 1);
        break;
      case 3: {
        // In two, as a stream may be.
        const border = below(random, piece.bytes.length + 1);
        pieces.splice(
          at,
          1,
          { from: piece.from, bytes: piece.bytes.subarray(0, border) },
          { from: piece.from, bytes: piece.bytes.subarray(border) },
        );
        break;
      }
      case 4:
        if (random() < 0.3) port = ports[below(random, ports.length)];
        break;
      default:
        pieces[at] = { from: piece.from, bytes: cut(changed(piece.bytes, donor.bytes, random)) };
    }
    pieces.length = Math.min(pieces.length, MAX_PIECES);
  }
  return { port, pieces };
}
