import { describe, expect, it } from 'vitest';
import { Random } from '../../bench/attack-traffic.ts';
import { SpaceSaving, upperBound } from '../../src/mitigation/index.ts';

/** Keys of a skewed stream, with weights, and the exact counts of each. */
function stream(
  seed: number,
  length: number,
  keys: number,
): { sketch: SpaceSaving; exact: Map<number, number> } {
  const r = new Random(seed);
  const sketch = new SpaceSaving(128, seed);
  const exact = new Map<number, number>();
  for (let i = 0; i < length; i++) {
    const key = Math.floor(keys * r.next() ** r.int(1, 6));
    const weight = r.pick([1, 1, 10, 100]);
    sketch.add(0, 0, 0, key, key % 7, weight, weight * 60);
    exact.set(key, (exact.get(key) ?? 0) + weight);
  }
  return { sketch, exact };
}

describe('heavy hitters', () => {
  it.each([1, 2, 3, 4, 5])(
    'are never undercounted, and overcounted by what is stated at most (seed %i)',
    (seed) => {
      const { sketch, exact } = stream(seed, 20_000, 50 * 10 ** (seed % 4));
      const total = [...exact.values()].reduce((a, b) => a + b);
      expect(sketch.total).toBe(total);
      const found = new Set<number>();
      for (let slot = 0; slot < sketch.used; slot++) {
        const key = sketch.keys[5 * slot + 3];
        const truth = exact.get(key) ?? 0;
        found.add(key);
        expect(sketch.count[slot]).toBeGreaterThanOrEqual(truth);
        expect(sketch.count[slot] - sketch.error[slot]).toBeLessThanOrEqual(truth);
        expect(sketch.error[slot]).toBeLessThanOrEqual(total / sketch.capacity);
      }
      // Each key once, and all that have more than the error.
      expect(found.size).toBe(sketch.used);
      for (const [key, count] of exact) if (count > total / sketch.capacity) expect(found).toContain(key);
    },
  );

  it('count exactly while there is room, and need no more memory for more keys', () => {
    const { sketch, exact } = stream(9, 5000, 100);
    for (let slot = 0; slot < sketch.used; slot++)
      expect(sketch.count[slot]).toBe(exact.get(sketch.keys[5 * slot + 3]));
    const memory = sketch.memory;
    for (let key = 0; key < 100_000; key++) sketch.add(1, 2, 3, key, 4, 1, 60);
    expect(sketch.memory).toBe(memory);
    expect(sketch.used).toBe(128);
    sketch.clear();
    sketch.add(0, 0, 0, 5, 0, 3, 3);
    expect([sketch.used, sketch.count[0], sketch.total]).toEqual([1, 3, 3]);
  });
});

describe('the bound on a share', () => {
  // qbeta(0.95, k + 1, n - k).
  it.each([
    [0, 100, 0.029513],
    [1, 100, 0.046559],
    [5, 1000, 0.010482],
    [0, 3000, 0.000998],
    [50, 100, 0.586378],
  ])('of %i in %i', (k, n, expected) => expect(upperBound(k, n)).toBeCloseTo(expected, 5));

  it('says nothing of nothing', () => {
    expect(upperBound(0, 0)).toBe(1);
    expect(upperBound(7, 7)).toBe(1);
  });
});
