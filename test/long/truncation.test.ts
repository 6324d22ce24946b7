import { expect, test } from 'vitest';
import { corpusRoot, readCases } from '../flow/support/corpus.ts';
import { truncated } from '../flow/support/truncation.ts';

const root = corpusRoot();

test.skipIf(root === undefined)('the corpus, cut behind every packet and within it', () => {
  const cases = readCases(root as string);
  const packets = cases.reduce((sum, entry) => sum + entry.packets, 0);
  expect(packets).toBe(9863);
  expect(cases.reduce((sum, entry) => sum + truncated(root as string, entry, 1), 0)).toBe(packets);
});
