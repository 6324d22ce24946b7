import { describe, expect, test } from 'vitest';
import { frameOf, type TopFrame } from '../../src/cli/top/frame.ts';
import type { Reading } from '../../src/cli/top/reading.ts';
import { type Around, frameLines } from '../../src/cli/top/text.ts';
import type { ShuntRow } from '../../src/gate/control-protocol.ts';
import { emptyLedger } from '../../src/gate/ledger.ts';
import { sluice } from '../support/command.ts';

const shunt = (port: number, pkts: number, trigger = 'tls'): ShuntRow =>
  ({
    proto: 'tcp',
    a: { addr: '10.0.0.1', port },
    b: { addr: '2001:db8::1', port: 443 },
    vlan: 0,
    innerVlan: 0,
    vni: 0,
    owner: '',
    trigger,
    ab: { pkts, bytes: pkts * 1000 },
    ba: { pkts: 0, bytes: 0 },
  }) as unknown as ShuntRow;

const reading = (at: number, seen: number, shunts: ShuntRow[] | undefined, lost = 0): Reading => ({
  at,
  name: 'eth1',
  mode: 'native',
  kind: 'gate',
  pid: 42,
  ledger: {
    ...emptyLedger(),
    seen: { pkts: seen, bytes: seen * 100 },
    passed: { pkts: seen, bytes: seen * 100 },
  },
  handled: undefined,
  connections: undefined,
  shuntsLive: shunts?.length ?? 50_000,
  shunts,
  rules: [],
  attacks: [{ id: 'x-1', kind: 'udp', target: '192.0.2.9', ended: null, peak: 5000, attack: true }],
  losses: {
    at,
    seconds: at,
    interval: 1,
    lost: { packets: lost, rate: lost },
    wanted: { packets: 0, rate: 0 },
    rows: [
      {
        stage: 'capture',
        where: 'eth1',
        counter: 'ringFull',
        kind: 'loss',
        unit: 'packets',
        total: lost,
        rate: lost,
      },
    ],
  },
});

const around: Around = {
  columns: 80,
  rows: 40,
  sort: 'rate',
  paused: false,
  silent: undefined,
  paint: (style, text) => (style === 'red' ? `!${text}` : text),
  keys: true,
};
const text = (frame: TopFrame, more: Partial<Around> = {}): string =>
  frameLines(frame, { ...around, ...more }).join('\n');

describe('a frame', () => {
  const before = reading(100, 1000, [shunt(1, 10), shunt(2, 5)]);

  test('rates since the reading before; a flow that is new has all that it has from since then', () => {
    const frame = frameOf(reading(102, 3000, [shunt(1, 30), shunt(2, 5), shunt(3, 200)]), before, 'rate');
    expect(frame).toMatchObject({
      seconds: 2,
      rates: { seenPkts: 1000, seenBits: 800_000, passedPkts: 1000 },
    });
    expect(frame.shunts.top.map(({ a, pktRate, bitRate }) => [a, pktRate, bitRate])).toEqual([
      ['10.0.0.1:3', 100, 800_000],
      ['10.0.0.1:1', 10, 80_000],
      ['10.0.0.1:2', 0, 0],
    ]);
    expect(frame.shunts.top[0].b).toBe('[2001:db8::1]:443');
  });

  test('without a reading before there is no rate', () => {
    const frame = frameOf(before, undefined, 'bytes');
    expect(frame).toMatchObject({ seconds: 0, rates: { seenPkts: 0 } });
    expect(frame.shunts.top.map(({ bytes }) => bytes)).toEqual([10_000, 5000]);
    expect(text(frame)).toMatch(/^seen +– +– +1,000 packets$/m);
  });

  test('counters that began anew make no rate below 0', () => {
    const frame = frameOf(reading(101, 10, [shunt(1, 2)]), before, 'rate');
    expect(frame.rates.seenPkts).toBe(10);
    expect(frame.shunts.top[0].pktRate).toBe(2);
  });

  test('as text: who, traffic, losses, attacks, flows', () => {
    const shown = text(frameOf(reading(101, 3000, [shunt(1, 30)], 7), before, 'rate'));
    expect(shown).toMatch(/^sluice top · gate on eth1 \(native, process 42\) · 00:01:41 UTC$/m);
    expect(shown).toMatch(/^!lost +7 packets, 7\/s$/m);
    expect(shown).toContain('capture eth1 ringFull: 7 packets, 7/s');
    expect(shown).toContain('!attack x-1  udp  192.0.2.9  peak 5,000/s');
    expect(shown).toContain('tcp 10.0.0.1:1 [2001:db8::1]:443  tls');
    expect(text(frameOf(reading(101, 1, []), before, 'rate'))).toContain('nothing, from the card on');
  });

  test('what is not of now is never shown as if it were', () => {
    const frame = frameOf(reading(101, 3000, [shunt(1, 30)]), before, 'rate');
    const silent = text(frame, { silent: 9 });
    expect(silent).toMatch(/^!NO ANSWER for 9 s: figures are of 00:01:41 UTC$/m);
    expect(silent).toMatch(/^seen +– +– +3,000 packets$/m);
    expect(silent).not.toMatch(/pkt\/s +\d|kpkt/);
    expect(text(frame, { paused: true })).toMatch(/^PAUSED at 00:01:41 UTC$/m);
  });

  test('fits into any window', () => {
    const many = Array.from({ length: 200 }, (_, i) => shunt(i + 1, i));
    const frame = frameOf(reading(101, 3e9, many, 5), before, 'rate');
    for (const columns of [1, 10, 30, 75, 76, 200])
      for (const rows of [1, 5, 20, 300]) {
        const lines = frameLines(frame, { ...around, columns, rows, paint: (_, line) => line });
        expect(lines.length).toBeLessThanOrEqual(rows);
        for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
      }
  });

  test('names that others chose bring no control characters', () => {
    const shown = text(frameOf(reading(101, 1, [shunt(1, 3, '\u001b[2Jx\n')]), before, 'rate'));
    expect(shown).toContain('?[2Jx?');
    expect(shown).not.toContain('\u001b');
  });

  test('too many shunts are not listed', () => {
    expect(text(frameOf(reading(101, 1, undefined), before, 'rate'))).toContain('not listed');
  });
});

test('where nothing answers: an error with its code', async () => {
  const outcome = await sluice('top', '--once', '--json', '--from', 'unix:/nowhere/sluice.sock');
  expect(outcome.code).toBe(1);
  expect(JSON.parse(outcome.stdout)).toMatchObject({
    error: { code: 'GATE_DOWN', help: expect.any(String) },
  });
});

test('bad intervals are refused', async () => {
  expect((await sluice('top', '--interval', '0s')).code).toBe(2);
});
