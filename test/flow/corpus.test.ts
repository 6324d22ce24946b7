import { expect, test } from 'vitest';
import { compare, corpusRoot, readCases } from './support/corpus.ts';

const root = corpusRoot();
const cases = root === undefined ? [] : readCases(root);

/** Cases that do not agree wholly: how many fields, and why. */
const EXPLAINED = new Map([
  // Runs of Zeek without the analyzer of what there is: HTTP, QUIC, DNP3, HTTP, DNS. We do find it.
  ['core.expire-all-timers.conn-all', 2],
  ['core.ppp', 1],
  ['scripts.base.frameworks.logging.field-name-map2', 1],
  ['scripts.base.frameworks.logging.field-name-map2', 1],
  ['scripts.base.protocols.postgresql.http-on-port-5432', 1],
  ['scripts.policy.protocols.conn.mac-logging.conn2', 2],
]);

test.skipIf(root === undefined)(
  `conn.log of Zeek's own tests${root === undefined ? ' (absent: set SLUICE_CORPUS to its folder)' : ''}`,
  () => {
    expect(cases.length).toBe(116);
    const result = compare(root as string, cases, ['--show', '100']);
    const differing = [...result.text.matchAll(/^DIFF (\S+): agree (\d+)\/(\d+)/gm)].map(
      ([, name, agree, total]) => [name, Number(total) - Number(agree)] as const,
    );
    expect(new Map(differing), result.text).toEqual(EXPLAINED);
    expect(result.text).toContain('missing: 0  extra: 0');
    expect(result.matched).toBe(result.expected);
  },
);

test.skipIf(root === undefined)(
  'service in the order of confirmation, where Zeek had all its analyzers',
  () => {
    const usual = cases.filter(({ service_scope: scope }) => scope === 'default');
    expect(usual.length).toBe(41);
    const result = compare(root as string, usual, [
      '--fields',
      'service',
      '--service-order',
      '--show',
      '100',
    ]);
    expect(result.agree, result.text).toBe(result.total);
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
