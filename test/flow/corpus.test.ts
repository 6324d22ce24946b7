import { expect, test } from 'vitest';
import { compare, corpusRoot, readCases } from './support/corpus.ts';

const root = corpusRoot();
const cases = root === undefined ? [] : readCases(root);

/** Cases that do not agree wholly, and why. */
const EXPLAINED = new Map([
  // The direction is turned by the mode of an NTP message, which takes an NTP parser (SEMANTICS 6.7).
  ['scripts.base.protocols.ntp.misordered-ntp', 9],
]);

test.skipIf(root === undefined)(
  `conn.log of Zeek's own tests${root === undefined ? ' (absent: set SLUICE_CORPUS to its folder)' : ''}`,
  () => {
    expect(cases.length).toBe(116);
    const result = compare(root as string, cases, ['--ignore', 'service', '--show', '100']);
    const differing = [...result.text.matchAll(/^DIFF (\S+): agree (\d+)\/(\d+)/gm)].map(
      ([, name, agree, total]) => [name, Number(total) - Number(agree)] as const,
    );
    expect(new Map(differing), result.text).toEqual(EXPLAINED);
    expect(result.text).toContain('missing: 0  extra: 0');
    expect(result.matched).toBe(result.expected);
    expect(result.agree / result.total, result.text).toBeGreaterThanOrEqual(0.994);
  },
);

test.skipIf(root === undefined)('local addresses and protocol numbers', () => {
  // These two were made with other local networks than the default.
  const special = new Set([
    'core.history-flip',
    'core.local-flip',
    'scripts.base.protocols.ntp.misordered-ntp',
  ]);
  const usual = cases.filter(({ name }) => !special.has(name));
  const result = compare(root as string, usual, ['--fields', 'local_orig,local_resp,ip_proto']);
  expect(result.agree, result.text).toBe(result.total);
});
