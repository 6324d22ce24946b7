import { describe, expect, it } from 'vitest';
import { attackOf, dnsQuery, Random } from '../../bench/attack-traffic.ts';
import { usualTraffic } from '../../bench/usual-traffic.ts';
import { parseVeto, Responder } from '../../src/mitigation/index.ts';
import { nameExpression } from '../../src/mitigation/name-expression.ts';
import { matchedRows } from '../../src/mitigation/synthesis.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { columnsOf } from './samples.ts';

const wire = (name: string): number[] =>
  name.split('.').flatMap((label) => [label.length, ...new TextEncoder().encode(label)]);

const NAMES = [
  'a.shop.example',
  'x1.SHOP.eXample',
  'one.two.shop.example',
  'one.two.three.shop.example',
  'shop.example',
  'a.shopp.example',
  'a.shop.example.org',
  'a.hop.example',
  'ashop.example',
  'a.shop.exampl',
];
const head4 = (src = '192.0.2.9'): PacketBuilder => eth().ipv4({ src, dst: '198.51.100.7' });
const head6 = (): PacketBuilder => eth().ipv6({ src: '2001:db8::9', dst: '2001:db8::7' });
const queries = (head: () => PacketBuilder): Uint8Array[] =>
  NAMES.map((name) =>
    head()
      .udp({ sport: 4000, dport: 53 })
      .payload(dnsQuery(new Random(1), wire(name)))
      .bytes(),
  );
const matched = (
  expr: string,
  frames: readonly Uint8Array[],
  lang: 'tcpdump' | 'dns' = 'tcpdump',
): boolean[] => {
  const columns = columnsOf(frames);
  return matchedRows(expr, lang, { columns, rows: frames.map((_, row) => row) });
};

describe('names under one, as a tcpdump expression', () => {
  const all = { name: 'shop.example', before: [1, 2, 3], vetoes: [], tags: 0 } as const;

  it('are those of **.name, but for the name itself', () => {
    const frames = queries(head4);
    const wanted = matched('**.shop.example', frames, 'dns');
    expect(wanted.filter(Boolean)).toHaveLength(5);
    wanted[NAMES.indexOf('shop.example')] = false;
    expect(matched(nameExpression({ ...all, family: 4 }), frames)).toEqual(wanted);
    expect(matched(nameExpression({ ...all, family: 6 }), queries(head6))).toEqual(wanted);
  });

  it('leave out what is vetoed', () => {
    const vetoes = [parseVeto('192.0.2.9'), parseVeto('udp/4001')];
    const frames = [...queries(() => head4('192.0.2.8')).slice(0, 1), ...queries(head4).slice(0, 1)];
    expect(matched(nameExpression({ ...all, family: 4, vetoes }), frames)).toEqual([true, false]);
  });
});

/** Usual traffic, and queries for random names from one second on. */
function tortured(vetoes: readonly string[]) {
  const usual = usualTraffic(7, '198.51.100');
  const attack = attackOf('dns-water-torture', 9, usual.servers[0]);
  const responder = new Responder(() => {}, { minPps: 300, learning: 0.5, vetoes: vetoes.map(parseVeto) });
  const frames = Array.from({ length: 2800 }, (_, i) => (i > 1000 ? attack.packet(i) : usual.packet(0)));
  responder.add(columnsOf(frames));
  responder.detector.advance((1_700_000_000 + 2.8) * 1e9);
  const record = responder.records.find(({ kind }) => kind === 'dns-water-torture');
  return { attack, record };
}

describe('a rule against random names', () => {
  it('is the name', () => {
    const { attack, record } = tortured(['tcp/22']);
    expect(record?.rules).toMatchObject([{ lang: 'dns', expr: `**.${attack.target}`, covers: 1 }]);
  });

  it('leaves out the veto list', () => {
    const { attack, record } = tortured(['10.0.0.0/9', 'tcp/22']);
    expect(record?.rules).toHaveLength(1);
    const [rule] = record?.rules ?? [];
    expect(rule.lang).toBe('tcpdump');
    expect(rule.expr).toContain('not ((net 10.0.0.0/9))');
    const query = attack.packet(0);
    const spared = query.slice();
    spared.set([10, 1, 2, 3], 26);
    query.set([11, 1, 2, 3], 26);
    expect(matched(rule.expr, [query, spared])).toEqual([true, false]);
  });

  it('is none when all of it is on the list', () => {
    const { record } = tortured(['0.0.0.0/0']);
    expect(record?.rules).toEqual([]);
    expect(record?.notes).toEqual(['what asks, or is asked, is on the veto list']);
  });
});
