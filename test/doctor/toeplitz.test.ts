import { describe, expect, it } from 'vitest';
import {
  hashInput,
  keyBytes,
  reversed,
  sampleTuples,
  symmetricKey,
  symmetry,
  type Tuple,
  toeplitz,
} from '../../src/doctor/toeplitz.ts';

/** The key and the vectors that Microsoft publishes for verification ("Verifying the RSS Hash Calculation"). */
const KEY = keyBytes('6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa');
const v4 = (text: string): Uint8Array => Uint8Array.from(text.split('.'), Number);
const v6 = (words: string): Uint8Array => keyBytes(words.replaceAll(':', ''));
const VECTORS: readonly [Tuple, number, number][] = [
  [tuple(v4('66.9.149.187'), 2794, v4('161.142.100.80'), 1766), 0x323e8fc2, 0x51ccc178],
  [tuple(v4('199.92.111.2'), 14230, v4('65.69.140.83'), 4739), 0xd718262a, 0xc626b0ea],
  [
    tuple(
      v6('3ffe:2501:0200:1fff:0000:0000:0000:0007'),
      2794,
      v6('3ffe:2501:0200:0003:0000:0000:0000:0001'),
      1766,
    ),
    0x2cc18cd5,
    0x40207d3d,
  ],
];

function tuple(
  source: Uint8Array,
  sourcePort: number,
  destination: Uint8Array,
  destinationPort: number,
): Tuple {
  return { source, destination, sourcePort, destinationPort };
}

const rss = (key: Uint8Array, transform = 0) => ({
  key: Buffer.from(key).toString('hex'),
  table: Array.from({ length: 128 }, (_, i) => i % 8),
  function: 'toeplitz' as const,
  transform,
});

it.each(VECTORS)('hashes as published, by addresses and with ports', (one, addresses, ports) => {
  expect(toeplitz(KEY, hashInput(one, 'sd', 0))).toBe(addresses);
  expect(toeplitz(KEY, hashInput(one, 'sdfn', 0))).toBe(ports);
});

describe('both directions', () => {
  it.each([4, 6] as const)('IPv%i: the usual key splits most, the repeated word none', (family) => {
    expect(symmetry(rss(KEY), 'sdfn', family)?.split).toBeGreaterThan(800);
    for (const length of [40, 52]) {
      const proof = symmetry(rss(symmetricKey(length)), 'sdfn', family);
      expect(proof).toMatchObject({ tuples: 1024, split: 0, example: undefined });
      expect(proof?.used).toBeGreaterThan(1);
    }
  });

  it('a card that mixes both ends before it hashes needs no special key', () => {
    expect(symmetry(rss(KEY, 1), 'sdfn', 4)?.split).toBe(0);
    expect(symmetry(rss(KEY, 2), 'sdfn', 6)?.split).toBe(0);
  });

  it('the key does not help when fields of one end alone are hashed', () => {
    expect(symmetry(rss(symmetricKey(40)), 'sdf', 4)?.split).toBeGreaterThan(500);
  });

  it('the example is one that goes apart', () => {
    const example = symmetry(rss(KEY), 'sd', 4)?.example;
    if (example === undefined) throw new Error('no example');
    const queue = (one: Tuple) => (toeplitz(KEY, hashInput(one, 'sd', 0)) % 128) % 8;
    expect(queue(example.tuple)).toBe(example.there);
    expect(queue(reversed(example.tuple))).toBe(example.back);
    expect(example.there).not.toBe(example.back);
  });

  it('is not claimed where function or key are not known', () => {
    expect(symmetry({ ...rss(KEY), function: 'xor' }, 'sdfn', 4)).toBeUndefined();
    expect(symmetry({ ...rss(KEY), key: '' }, 'sdfn', 4)).toBeUndefined();
    expect(symmetry({ ...rss(KEY), table: [] }, 'sdfn', 4)).toBeUndefined();
  });
});

it('sample tuples are the same each time, and all different', () => {
  expect(sampleTuples(64, 6)).toEqual(sampleTuples(64, 6));
  expect(new Set(sampleTuples(1024, 4).map((one) => JSON.stringify(one))).size).toBe(1024);
});
