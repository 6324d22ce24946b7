import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { compare, corpusRoot, type Difference, readCases } from './support/corpus.ts';

const root = corpusRoot();
const cases = root === undefined ? [] : readCases(root);
const absent = root === undefined ? ' (absent: set SLUICE_CORPUS to its folder)' : '';

/** Every field that is not Zeek's, with the reason. */
const EXPLAINED = JSON.parse(
  readFileSync(new URL('corpus-differences.json', import.meta.url), 'utf8'),
) as (Difference & { why: string })[];

test.skipIf(root === undefined)(
  `conn.log of Zeek's own tests, service where Zeek had all of them${absent}`,
  () => {
    expect(cases.length).toBe(116);
    const result = compare(root as string, cases, ['--service-as-recorded']);
    expect(result).toMatchObject({ differences: [], unmatched: [], worst: 1, agree: 1 });
    expect(result.fields).toBeGreaterThan(18_000);
    expect(result.conns).toBe(1619);
  },
);

test.skipIf(root === undefined)(
  'all fields: what differs is in corpus-differences.json, each with its reason',
  () => {
    const result = compare(root as string, cases, []);
    expect(result.unmatched).toEqual([]);
    expect(result.agree).toBeGreaterThan(0.99);
    const known = EXPLAINED.map(({ why, ...difference }) => {
      expect(why.length).toBeGreaterThan(20);
      return difference;
    });
    expect(result.differences).toEqual(known);
  },
);

test.skipIf(root === undefined)(
  'service in the order of confirmation, where Zeek had all its analyzers',
  () => {
    const usual = cases.filter(({ service_scope: scope }) => scope === 'default');
    expect(usual.length).toBe(41);
    const result = compare(root as string, usual, ['--fields', 'service', '--service-order']);
    expect(result.differences).toEqual([]);
  },
);

test.skipIf(root === undefined)('local addresses and protocol numbers', () => {
  // These were made with other local networks than the default.
  const special = new Set([
    'core.history-flip',
    'core.local-flip',
    'scripts.base.protocols.ntp.misordered-ntp',
  ]);
  const usual = cases.filter(({ name }) => !special.has(name));
  const result = compare(root as string, usual, ['--fields', 'local_orig,local_resp,ip_proto']);
  expect(result.differences).toEqual([]);
});
