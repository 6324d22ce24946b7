import { expect } from 'vitest';
import { compareRound, makeFrames, runP0f } from '../filter/p0f-compare.ts';
import { seeded, toolTest, withFolder } from '../filter/support.ts';

toolTest('p0f says the same of many random segments and signatures', 'p0f', () => {
  withFolder((dir) => {
    let signatures = 0;
    for (let seed = 100; seed < 120; seed++) {
      const made = makeFrames(dir, seed, 1200);
      const lines = runP0f(dir, made);
      for (let round = 0; round < 3; round++) {
        const result = compareRound(dir, made, lines, seeded(seed * 10 + round));
        expect(result.disagreements).toEqual([]);
        signatures += result.signatures;
      }
    }
    expect(signatures).toBeGreaterThan(15_000);
  });
});
