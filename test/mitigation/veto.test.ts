import { describe, expect, it } from 'vitest';
import { expressionOf } from '../../src/mitigation/expression.ts';
import { KindIndex } from '../../src/mitigation/kinds.ts';
import { matchedRows } from '../../src/mitigation/synthesis.ts';
import { operatorVetoes, parseVeto } from '../../src/mitigation/veto.ts';
import { eth } from '../../src/packet/build.ts';
import { columnsOf } from './samples.ts';

const from = (SSH_CONNECTION: string | undefined): string[] =>
  operatorVetoes(SSH_CONNECTION === undefined ? {} : { SSH_CONNECTION });

const syn = (src: string, dport: number): Uint8Array =>
  eth().ipv4({ src, dst: '192.0.2.1' }).tcp({ sport: 51_000, dport, flags: 'S' }).bytes();

describe('the connection that the operator has come by', () => {
  it('is on the veto list, over IPv4 and IPv6', () => {
    expect(from('203.0.113.5 51000 192.0.2.1 22')).toEqual(['203.0.113.5,tcp/22']);
    expect(from('2001:db8::5 51000 2001:db8::1 2222')).toEqual(['2001:db8::5,tcp/2222']);
  });

  it.each([undefined, '', 'nonsense', '203.0.113.5', 'a b c d'])('is none in %j', (text) => {
    expect(from(text)).toEqual([]);
  });

  it('is left out by a rule that would have matched it, and nothing else of its host is', () => {
    const columns = columnsOf([syn('203.0.113.5', 22), syn('203.0.113.5', 80), syn('203.0.113.6', 22)]);
    const vetoes = from('203.0.113.5 51000 192.0.2.1 22').map(parseVeto);
    const expr = expressionOf({
      kind: KindIndex.syn,
      family: 4,
      target: undefined,
      terms: [],
      vetoes,
      tags: 0,
    });
    expect(matchedRows(expr, 'tcpdump', { columns, rows: [0, 1, 2] })).toEqual([false, true, true]);
  });
});
