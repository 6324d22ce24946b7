import { expect, test } from 'vitest';
import { FlowTable } from '../../src/flow/table.ts';
import { Coverage } from '../support/coverage.ts';

const CAPACITY = 1 << 14;
const KEYS = 1 << 13;
/** Low bits of the hash that are made to be the same: as many places remain as there are bits more. */
const SAME = 0x3ff;

/** Tuples of one server that hash alike under this seed: what an attacker finds who knows it. */
function colliding(seed: Int32Array): Int32Array[] {
  const table = new FlowTable(4, seed);
  const found: Int32Array[] = [];
  const key = Int32Array.of(0x0a000001, 0x0a000002, 0, 0x06000000);
  for (let n = 0; found.length < KEYS; n++) {
    key[0] = 0x0a000000 + (n >>> 16);
    key[2] = (n << 16) | 443;
    if ((table.hash(key, 0, 4) & SAME) === 0) found.push(key.slice());
  }
  return found;
}

/** Places of the index that are looked at for each of these keys, on average: counted, not timed. */
function probes(seed: Int32Array, keys: readonly Int32Array[]): { stored: number; absent: number } {
  const table = new FlowTable(CAPACITY, seed);
  const [there, others] = [keys.slice(0, KEYS / 2), keys.slice(KEYS / 2)];
  for (const key of there) expect(table.insert(key, 0, 4, table.hash(key, 0, 4))).toBeGreaterThanOrEqual(0);
  const hashes = (list: readonly Int32Array[]) => list.map((key) => table.hash(key, 0, 4));
  const coverage = new Coverage(/\/(src\/flow\/table\.ts)/);
  const count = (list: readonly Int32Array[], known: readonly number[]) => {
    coverage.look();
    for (let i = 0; i < list.length; i++) table.find(list[i], 0, 4, known[i]);
    return coverage.look().most / list.length;
  };
  try {
    return { stored: count(there, hashes(there)), absent: count(others, hashes(others)) };
  } finally {
    coverage.close();
  }
}

test('tuples that collide under one seed do not under another: the table is as fast as ever', () => {
  const known = Int32Array.of(7, 0x1234567, 0x89abcdf);
  const keys = colliding(known);
  // What the attack would do to a table without a secret; the measure is not blind.
  const attacked = probes(known, keys);
  expect(attacked.stored).toBeGreaterThan(30);
  expect(attacked.absent).toBeGreaterThan(60);
  for (let run = 1; run <= 5; run++) {
    const { stored, absent } = probes(Int32Array.of(run * 7919, run * 104_729, 0x9e3779b1 + 2 * run), keys);
    // A compare of four words is the most that runs for a key that is there.
    expect(stored).toBeLessThan(6);
    expect(absent).toBeLessThan(3);
  }
});
