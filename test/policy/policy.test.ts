import { describe, expect, test } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import {
  compilePolicies,
  FlowFlag,
  POLICY_HELP,
  parsePolicies,
  parsePolicy,
} from '../../src/policy/index.ts';

describe('parsePolicy', () => {
  test.each([
    ['tls', ['tls']],
    ['bulk', ['bulk=1MB']],
    ['bulk=1MB', ['bulk=1MB']],
    ['bulk=1MiB', ['bulk=1MiB']],
    ['bulk=500kB', ['bulk=500kB']],
    ['bulk=1500', ['bulk=1500']],
    ['tls,bulk=1MB', ['tls', 'bulk=1MB']],
    [' bulk = 2MB , TLS ', ['bulk=2MB', 'tls']],
    ['none', []],
  ])('%s', (text, names) => {
    const policies = parsePolicy(text);
    expect(policies.map((policy) => policy.name)).toEqual(names);
    // The canonical form means the same.
    if (names.length > 0) expect(parsePolicies(names)).toEqual(policies);
  });

  test('1 MB is 10^6 bytes, 1 MiB is 2^20', () => {
    expect(parsePolicy('bulk')[0].bytes).toBe(1_000_000);
    expect(parsePolicy('bulk=1MB')[0].bytes).toBe(1_000_000);
    expect(parsePolicy('bulk=1MiB')[0].bytes).toBe(1_048_576);
    expect(parsePolicy('bulk=500kB')[0].bytes).toBe(500_000);
  });

  test.each([
    ['tsl', /there is no policy 'tsl'/, /did you mean 'tls'\? known: tls, bulk, none/],
    ['bluk=1MB', /no policy 'bluk'/, /did you mean 'bulk'/],
    ['elephants-everywhere', /no policy/, /^known: tls, bulk, none$/],
    ['', /no name/, /known/],
    ['tls,', /no name/, /known/],
    ['bulk=', /needs a size/, /bulk=1MB/],
    ['bulk=fast', /needs a size, not 'fast'/, /1MiB/],
    ['bulk=0', /above 0/, /bulk=1MB/],
    ['bulk=-5', /needs a size/, /bulk=1MB/],
    ['tls=1', /takes no argument/, /just tls/],
    ['none,tls', /stands alone/, /leave/],
    ['tls,tls', /given twice/, /once/],
    ['bulk=1MB,bulk=2MB', /given twice/, /once/],
  ])('%j is a usage error with a next step', (text, message, help) => {
    let error: unknown;
    try {
      parsePolicy(text);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(SluiceError);
    const coded = error as SluiceError;
    expect(coded.code).toBe('USAGE');
    expect(coded.exit).toBe(2);
    expect(coded.message).toMatch(message);
    expect(coded.help).toMatch(help);
  });

  test('the help names every policy', () => {
    expect(POLICY_HELP.map((line) => /^\w+/.exec(line)?.[0])).toEqual(['tls', 'bulk', 'none']);
  });
});

describe('evaluate', () => {
  const both = compilePolicies(parsePolicy('tls,bulk=1MB'));

  test('bulk: at a million IP bytes in either direction, not in the sum', () => {
    expect(both.evaluate(0, 1000, 999_999, 999_999)).toBe(-1);
    expect(both.evaluate(0, 1000, 1_000_000, 0)).toBe(1);
    expect(both.evaluate(0, 1000, 0, 1_000_000)).toBe(1);
    expect(both.trigger(1)).toBe('BULK');
  });

  test("bulk: only from the connection's tenth packet on", () => {
    expect(both.evaluate(0, 9, 5_000_000, 0)).toBe(-1);
    expect(both.evaluate(0, 10, 5_000_000, 0)).toBe(1);
  });

  test('tls: as soon as both sides are established, whatever the counts', () => {
    expect(both.evaluate(FlowFlag.tlsEstablished, 4, 100, 100)).toBe(0);
    expect(both.trigger(0)).toBe('TLS_ESTABLISHED');
  });

  test('other flag bits mean nothing', () => {
    expect(both.evaluate(~FlowFlag.tlsEstablished, 4, 100, 100)).toBe(-1);
  });

  test('the first of the list wins when several would trigger', () => {
    const bulkFirst = compilePolicies(parsePolicy('bulk=1MB,tls'));
    expect(bulkFirst.trigger(bulkFirst.evaluate(FlowFlag.tlsEstablished, 100, 2e6, 0))).toBe('BULK');
    expect(both.trigger(both.evaluate(FlowFlag.tlsEstablished, 100, 2e6, 0))).toBe('TLS_ESTABLISHED');
    expect(bulkFirst.evaluate(FlowFlag.tlsEstablished, 5, 2e6, 0)).toBe(1);
  });

  test('one policy alone does not do the work of the other', () => {
    expect(compilePolicies(parsePolicy('tls')).evaluate(0, 100, 1e12, 1e12)).toBe(-1);
    expect(compilePolicies(parsePolicy('bulk')).evaluate(FlowFlag.tlsEstablished, 100, 10, 10)).toBe(-1);
  });

  test('none shunts nothing', () => {
    const none = compilePolicies(parsePolicy('none'));
    expect(none.empty).toBe(true);
    expect(none.evaluate(FlowFlag.tlsEstablished, 1e9, 1e15, 1e15)).toBe(-1);
  });
});
