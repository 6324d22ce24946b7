import { describe, expect, test } from 'vitest';
import type { Point } from '../../src/api/point.ts';
import {
  clock,
  count,
  duration,
  endpoint,
  evidenceText,
  percent,
  scaled,
  tags,
  words,
} from '../../web/src/format.ts';
import { tokenOfFragment } from '../../web/src/fragment.ts';
import { backOff, freshness } from '../../web/src/freshness.ts';
import { columns, KEPT, latest, lossesOf, merged, place, stacked } from '../../web/src/series.ts';
import { EventParser } from '../../web/src/sse.ts';

const point = (t: number, more: Partial<Point> = {}): Point => ({
  t,
  pkts: [1, 2, 0, 0, 0, 0],
  bits: [8, 16, 0, 0, 0, 0],
  sensorPkts: 1,
  sensorBits: 8,
  lost: 0,
  open: 0,
  live: 0,
  cpus: 0,
  workers: [0.5],
  ...more,
});

describe('numbers', () => {
  test.each([
    [0, 'bit/s', '0 bit/s'],
    [0.4, 'pkt/s', '0.4 pkt/s'],
    [12.3, 'pkt/s', '12 pkt/s'],
    [999.6, 'B', '1.00 kB'],
    [1234, 'B', '1.23 kB'],
    [99_960, 'B', '100 kB'],
    [999_600, 'bit/s', '1.00 Mbit/s'],
    [2.5e9, 'bit/s', '2.50 Gbit/s'],
    [Number.NaN, 'B', '–'],
  ])('%d %s is %s', (value, unit, text) => expect(scaled(value, unit)).toBe(text));

  test('a little is not nothing, nearly all is not all, and a part of nothing is not known', () => {
    expect(percent(1, 1e6)).toBe('< 0.1 %');
    expect(percent(999_999, 1e6)).toBe('> 99.9 %');
    expect([percent(0, 5), percent(5, 5), percent(1, 8)]).toEqual(['0.0 %', '100 %', '13 %']);
    expect(percent(0, 0)).toBe('–');
  });

  test('times, counts, ends of a flow', () => {
    expect([9.96, 61, 600, 90_000, 999_999].map(duration)).toEqual([
      '10.0 s',
      '61 s',
      '10 min',
      '25 h 0 min',
      '11 d',
    ]);
    expect(count(1_234_567)).toBe('1,234,567');
    expect(clock(0)).toMatch(/^\d\d:\d\d:\d\d$/);
    expect(endpoint({ addr: '2001:db8::1', port: 443 })).toBe('[2001:db8::1]:443');
    expect(endpoint({ addr: '192.0.2.1', port: 53 })).toBe('192.0.2.1:53');
    expect(tags({ vlan: 5, innerVlan: 6, vni: 0, geneveVni: 7 })).toBe(' vlan 5.6 geneve-vni 7');
    expect(tags({ vlan: 0, innerVlan: 0, vni: 9, geneveVni: 0 })).toBe(' vni 9');
  });
});

test('evidence of an attack is for people', () => {
  expect(words('effectiveSources')).toBe('effective sources');
  expect([1234, 0.0075000989, 1500.7].map(evidenceText)).toEqual(['1,234', '0.0075', '1,501']);
  expect(evidenceText({ ack: 0.25, topPorts: [53, 80], none: {} })).toBe(
    'ack 0.25, top ports 53, 80, none none',
  );
  expect([null, true, 'x', []].map(evidenceText)).toEqual(['null', 'true', 'x', 'none']);
});

describe('how old numbers are', () => {
  test('they are live, late, stale, and ended once a run has said so', () => {
    expect([undefined, 0, 2.6, 5].map((age) => freshness(age, false))).toEqual([
      'waiting',
      'live',
      'late',
      'stale',
    ]);
    expect(freshness(100, true)).toBe('ended');
  });

  test('a page that is turned away comes back later each time, and not with all others', () => {
    expect([0, 1, 4, 40].map((attempt) => backOff(attempt, 0))).toEqual([500, 1000, 8000, 15_000]);
    expect(backOff(4, 1)).toBeCloseTo((8000 * 2) / 3);
  });
});

describe('events', () => {
  const text = 'event: tick\ndata: {"a":1}\n\n: comment\n\nevent: end\ndata: {"a":2}\n\n';
  const events = [
    { event: 'tick', data: '{"a":1}' },
    { event: 'end', data: '{"a":2}' },
  ];

  test('come out whole however they are cut', () => {
    for (let size = 1; size <= text.length; size++) {
      const parser = new EventParser();
      const found = [];
      for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
      expect(found).toEqual(events);
    }
  });

  test('one that never ends is not held in memory', () => {
    const parser = new EventParser();
    expect(() => {
      for (let i = 0; i < 20; i++) parser.push('x'.repeat(100_000));
    }).toThrow('does not end');
  });
});

describe('series', () => {
  test('history and stream join, each second once, the old ones forgotten', () => {
    const joined = merged([point(3), point(1)], [point(2), point(3, { open: 7 })]);
    expect(joined.map(({ t, open }) => [t, open])).toEqual([
      [1, 0],
      [2, 0],
      [3, 7],
    ]);
    expect(merged(joined, [point(2 + KEPT)]).map(({ t }) => t)).toEqual([3, 2 + KEPT]);
  });

  test('seconds that are missing are a hole, not a line', () => {
    expect(columns([point(1), point(2), point(9)], [({ pkts }) => pkts[0] ?? 0])).toEqual([
      [1, 2, 3, 9],
      [1, 1, null, 1],
    ]);
  });

  test('stacked areas end with the sum', () => {
    expect(
      stacked([
        [1, null],
        [2, null],
        [3, 1],
      ]),
    ).toEqual([
      [1, null],
      [3, null],
      [6, 1],
    ]);
  });

  test('what is lost is found wherever it is', () => {
    const points = [point(1, { lost: 2 }), point(2), point(3, { lost: 1 }), point(4)];
    expect(lossesOf(points)).toEqual({ pkts: 3, last: 3 });
    expect(lossesOf(latest(points, 1))).toEqual({ pkts: 0, last: undefined });
  });

  test('a place on a line of time is on it', () => {
    expect([place(5, 0, 10), place(-1, 0, 10), place(11, 0, 10), place(1, 1, 1)]).toEqual([50, 0, 100, 0]);
  });
});

test('a token is taken from behind the address alone', () => {
  expect(tokenOfFragment('#token=abc')).toBe('abc');
  expect(tokenOfFragment('#')).toBeUndefined();
  expect(tokenOfFragment('#token=')).toBeUndefined();
});
