import { describe, expect, it } from 'vitest';
import { ATTACK_KINDS, attackOf, Random } from '../../bench/attack-traffic.ts';
import { usualTraffic } from '../../bench/usual-traffic.ts';
import { baseHolds, expressionOf } from '../../src/mitigation/expression.ts';
import { type Feature, featuresOf, holds, type Term, valueOf } from '../../src/mitigation/features.ts';
import { KINDS, KindIndex, kindOf } from '../../src/mitigation/kinds.ts';
import { matchedRows } from '../../src/mitigation/synthesis.ts';
import { eth } from '../../src/packet/build.ts';
import { columnsOf } from './samples.ts';

const TARGET = '198.51.100.7';

function frames(): Uint8Array[] {
  const usual = usualTraffic(3, '198.51.100');
  const all = Array.from({ length: 300 }, () => usual.packet(3));
  for (const [at, kind] of ATTACK_KINDS.entries()) {
    const { packet } = attackOf(kind, 100 + at, TARGET);
    for (let i = 0; i < 20; i++) all.push(packet(i));
  }
  return all;
}

/** The same kinds of packets over IPv6. */
function frames6(): Uint8Array[] {
  const r = new Random(5);
  const head = () =>
    eth().ipv6({ src: `2001:db8::${r.int(1, 999)}`, dst: '2001:db8:1::7', hopLimit: r.int(30, 250) });
  const initial = (version: number[]) =>
    Uint8Array.of(version[0] === 0 ? 0xc2 : 0xd1, ...version, 8, ...r.bytes(60));
  const query = Uint8Array.of(1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 1, 98, 2, 99, 100, 0, 0, 1, 0, 1);
  return [
    ...['S', 'SA', 'A', 'R', 'FPU', 'RA', 'PA'].map((flags) =>
      head()
        .tcp({ flags, window: r.int(1, 999) })
        .bytes(),
    ),
    head().udp({ sport: 4000, dport: 4001 }).payload(50).bytes(),
    head().udp({ sport: 123, dport: 4001 }).payload(200).bytes(),
    head().udp({ sport: 4000, dport: 53 }).payload(query).bytes(),
    head()
      .udp({ sport: 4000, dport: 443 })
      .payload(initial([0, 0, 0, 1]))
      .bytes(),
    head()
      .udp({ sport: 4000, dport: 443 })
      .payload(initial([0x6b, 0x33, 0x43, 0xcf]))
      .bytes(),
    head().icmpv6().payload(30).bytes(),
    head().gre({ protocol: 0x0800 }).payload(30).bytes(),
    head().fragment({ offset: 800, more: true, id: 7 }).payload(100).bytes(),
  ];
}

describe.each([
  [4 as const, frames],
  [6 as const, frames6],
])('expressions over IPv%i', (family, make) => {
  const columns = columnsOf(make());
  const rows = Array.from({ length: columns.count }, (_, row) => row);

  it('know all that is made', () => {
    expect(columns.count).toBe(make().length);
    expect(columns.family.every((it) => it === family)).toBe(true);
  });

  it.each(KINDS.map(({ name }, kind) => [name, kind] as const))(
    'of %s match what is of the kind',
    (_, kind) => {
      const expr = expressionOf({ kind, family, target: undefined, terms: [], vetoes: [], tags: 0 });
      const wanted = rows.map((row) => baseHolds(kind, columns, row));
      expect(matchedRows(expr, 'tcpdump', { columns, rows })).toEqual(wanted);
    },
  );

  it('say of every feature of every packet what it is', () => {
    let compared = 0;
    for (const row of rows.slice(0, 500).filter((row) => row % 23 === 0 || family === 6)) {
      const kind = kindOf(columns, row);
      for (const feature of featuresOf(family, KINDS[kind].protocol)) {
        const value = valueOf(columns, row, feature);
        if (value < 0) continue;
        const terms: Term[] = [
          { feature, values: [value] },
          { feature, low: Math.max(0, value - 1), high: Math.min(feature.most, value + 1) },
        ];
        for (const term of feature.ordered ? terms : terms.slice(0, 1)) {
          const expr = expressionOf({ kind, family, target: undefined, terms: [term], vetoes: [], tags: 0 });
          const wanted = rows.map((other) => baseHolds(kind, columns, other) && holds(columns, other, term));
          expect(matchedRows(expr, 'tcpdump', { columns, rows }), expr).toEqual(wanted);
          compared++;
        }
      }
    }
    expect(compared).toBeGreaterThan(100);
  });
});

describe('an expression', () => {
  const words = Uint32Array.of(0, 0, 0, 0xc6336407);
  const target = { family: 4, words, bits: 32 } as const;

  it('leaves out what is vetoed', () => {
    const columns = columnsOf([
      eth().ipv4({ src: '10.0.0.1', dst: TARGET }).tcp({ dport: 22, flags: 'S' }).bytes(),
      eth().ipv4({ src: '10.0.0.2', dst: TARGET }).tcp({ dport: 22, flags: 'S' }).bytes(),
      eth().ipv4({ src: '10.0.0.1', dst: TARGET }).tcp({ dport: 80, flags: 'S' }).bytes(),
    ]);
    const host = { family: 4, words: Uint32Array.of(0, 0, 0, 0x0a000001), bits: 32 } as const;
    const vetoes = [{ host, protocol: 'tcp', port: 22 } as const];
    const expr = expressionOf({ kind: KindIndex.syn, family: 4, target, terms: [], vetoes, tags: 0 });
    expect(matchedRows(expr, 'tcpdump', { columns, rows: [0, 1, 2] })).toEqual([false, true, true]);
  });

  it('may leave nothing over', () => {
    const columns = columnsOf([eth().ipv4({ dst: TARGET }).tcp({ dport: 80, flags: 'S' }).bytes()]);
    const vetoes = [{ protocol: 'tcp', port: 80 } as const];
    const terms: Term[] = [
      { feature: featuresOf(4, 6).find(({ name }) => name === 'dport') as Feature, values: [80] },
    ];
    const expr = expressionOf({ kind: KindIndex.syn, family: 4, target, terms, vetoes, tags: 0 });
    expect(matchedRows(expr, 'tcpdump', { columns, rows: [0] })).toEqual([false]);
    expect(matchedRows('udp and tcp', 'tcpdump', { columns, rows: [0] })).toEqual([false]);
  });

  it('looks behind tags', () => {
    const tagged = eth().vlan(7).ipv4({ dst: TARGET }).tcp({ flags: 'S' }).bytes();
    const plain = eth().ipv4({ dst: TARGET }).tcp({ flags: 'S' }).bytes();
    const columns = columnsOf([tagged, plain]);
    expect([...columns.tags.subarray(0, 2)]).toEqual([1, 0]);
    const expr = expressionOf({ kind: KindIndex.syn, family: 4, target, terms: [], vetoes: [], tags: 1 });
    expect(matchedRows(expr, 'tcpdump', { columns, rows: [0, 1] })).toEqual([true, false]);
  });
});

describe('any bytes', () => {
  it('are read or refused, never more', () => {
    const r = new Random(11);
    const samples = frames();
    const damaged = Array.from({ length: 3000 }, () => {
      const frame = r.pick(samples).slice();
      for (let i = r.int(0, 20); i > 0; i--) frame[r.int(0, Math.min(80, frame.length - 1))] = r.int(0, 255);
      return frame.subarray(0, r.int(0, frame.length));
    });
    for (const caplen of [20, 64, 100, 65_535]) {
      const columns = columnsOf(damaged, caplen);
      for (let row = 0; row < columns.count; row++) {
        const kind = kindOf(columns, row);
        expect(kind).toBeLessThan(KINDS.length);
        for (const feature of featuresOf(4, columns.protocol[row])) valueOf(columns, row, feature);
      }
    }
  });
});
