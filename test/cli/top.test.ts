import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { frameOf, type TopFrame } from '../../src/cli/top/frame.ts';
import type { FlowLine, Lists, Reading } from '../../src/cli/top/reading.ts';
import { frameLines } from '../../src/cli/top/text.ts';
import { type Around, VIEWS } from '../../src/cli/top/views.ts';
import { emptyLedger } from '../../src/gate/ledger.ts';
import { sluice } from '../support/command.ts';

const shunt = (port: number, pkts: number, trigger = 'tls'): FlowLine => ({
  proto: 'tcp',
  a: { addr: '10.0.0.1', port },
  b: { addr: '2001:db8::1', port: 443 },
  vlan: 0,
  innerVlan: 0,
  vni: 0,
  geneveVni: 0,
  owner: '',
  trigger,
  pkts,
  bytes: pkts * 1000,
});

const attack = {
  id: 'x-1',
  kind: 'udp',
  target: '192.0.2.9',
  began: 41,
  ended: null,
  peak: 5000,
  usual: 20,
  attack: true,
  why: 'more than ever',
};
const rule = {
  id: 'r1',
  expr: 'udp port 9',
  action: 'drop',
  enabled: true,
  matched: { pkts: 4 },
  dropped: { pkts: 4 },
};

const lists = (at: number, shunts: FlowLine[] | undefined, more: Partial<Lists> = {}): Lists => ({
  at,
  shunts,
  whole: true,
  talkers: [{ host: '10.0.0.1', connections: 3, bytes: 9_000_000, dropped: 8_000_000 }],
  talkersOf: 300,
  rules: [],
  attacks: [attack],
  ...more,
});

const reading = (
  at: number,
  seen: number,
  shunts: FlowLine[] | undefined,
  lost = 0,
  before?: Reading,
): Reading => ({
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
  lists: lists(at, shunts),
  listsBefore: before?.lists,
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
        counter: 'received',
        kind: 'count',
        unit: 'packets',
        total: seen,
        rate: 0,
      },
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
  view: 'overview',
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
    const frame = frameOf(
      reading(102, 3000, [shunt(1, 30), shunt(2, 5), shunt(3, 200)], 0, before),
      before,
      'rate',
    );
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
    const frame = frameOf(reading(101, 10, [shunt(1, 2)], 0, before), before, 'rate');
    expect(frame.rates.seenPkts).toBe(10);
    expect(frame.shunts.top[0].pktRate).toBe(2);
  });

  test('as text: who, traffic, losses, attacks, flows', () => {
    const shown = text(frameOf(reading(101, 3000, [shunt(1, 30)], 7, before), before, 'rate'));
    expect(shown).toMatch(/^sluice top · gate on eth1 \(native, process 42\) · 00:01:41 UTC$/m);
    expect(shown).toMatch(/^!lost +7 packets \(0\.23 %\), 7\/s$/m);
    expect(shown).toContain('capture  eth1: ringFull 7 packets, 7/s');
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

  test('fits into any window, in every view', () => {
    const many = Array.from({ length: 200 }, (_, i) => shunt(i + 1, i));
    const frame = frameOf(
      { ...reading(101, 3e9, many, 5), lists: lists(101, many, { rules: [rule] }) },
      before,
      'rate',
    );
    for (const view of VIEWS)
      for (const columns of [1, 10, 30, 75, 76, 200])
        for (const rows of [1, 5, 20, 300]) {
          const lines = frameLines(frame, { ...around, view, columns, rows, paint: (_, line) => line });
          expect(lines.length).toBeLessThanOrEqual(rows);
          for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
        }
  });

  test('views: talkers, rules, attacks, losses, flows with their ids; narrow ones keep what a line is about', () => {
    const tagged = { ...shunt(1, 30), vlan: 7, innerVlan: 8, geneveVni: 9 };
    const now = {
      ...reading(101, 3000, [tagged], 7, before),
      lists: lists(101, [tagged], { rules: [{ ...rule, dropped: { pkts: 24 } }] }),
      listsBefore: lists(99, [], { rules: [rule] }),
    };
    const frame = frameOf(now, before, 'rate');
    const shown = (view: (typeof VIEWS)[number], columns = 120): string => text(frame, { view, columns });
    expect(shown('talkers')).toMatch(/^ +9\.00 MB +8\.00 MB +3 {2}10\.0\.0\.1$/m);
    expect(shown('rules')).toMatch(/^on +10 +24 {2}drop {2}udp port 9 {2}\(r1\)$/m);
    expect(shown('attacks')).toMatch(/^! +5,000 +20 +1:00 {2}udp {2}192\.0\.2\.9 {2}x-1 {2}more than ever$/m);
    expect(shown('flows')).toContain('tcp 10.0.0.1:1 [2001:db8::1]:443 vlan 7.8 geneve-vni 9  tls');
    expect(shown('losses')).toMatch(/^ {2}capture +eth1: received 3,000 packets$/m);
    expect(shown('flows')).not.toContain('attack x-1');
    expect(shown('talkers', 40)).toMatch(/^ +9\.00 MB {2}10\.0\.0\.1$/m);
    expect(shown('attacks', 40)).toMatch(/^! +5,000 {2}udp {2}192\.0\.2\.9$/m);
    // In a low window the list comes first.
    expect(frameLines(frame, { ...around, view: 'talkers', rows: 4 })[1]).toContain('talkers');
  });

  test('where only the first are listed, one that is new among them has no rate', () => {
    const part = { whole: false };
    const now = {
      ...reading(101, 1, undefined),
      lists: lists(101, [shunt(1, 30), shunt(9, 500)], part),
      listsBefore: lists(99, [shunt(1, 10)], part),
    };
    const { shunts, listSeconds } = frameOf(now, before, 'rate');
    expect(listSeconds).toBe(2);
    expect(shunts.top.map(({ pktRate }) => pktRate)).toEqual([10, 0]);
    // One board for both looks: rates are not known yet.
    const same = frameOf({ ...now, listsBefore: undefined }, before, 'rate');
    expect(text(same, { view: 'flows' })).toMatch(/^ +– +– +500 kB/m);
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

test('--from shows what an API lists: flows, talkers, rules, attacks', async () => {
  const [a, b] = [1, 2].map((port) => ({ addr: '10.0.0.1', port }));
  const flow = { proto: 'udp', a, b, vlan: 0, innerVlan: 0, vni: 5, geneveVni: 0 };
  const answers: Record<string, unknown> = {
    '/v1/status': {
      at: 100,
      packets: 5,
      bytes: 500,
      connections: { open: 1 },
      shunts: { live: 1 },
      ledger: null,
    },
    '/v1/losses': { at: 100, seconds: 1, interval: 1, lost: {}, wanted: {}, rows: [] },
    '/v1/sources': [{ name: 'eth7', mode: 'native' }],
    '/v1/board': {
      at: 99,
      shunts: {
        entries: 1,
        top: [{ ...flow, owner: '', trigger: 'bulk', pkts: 2, bytes: 2000, ipBytes: 1972 }],
      },
      talkers: {
        seconds: 300,
        hosts: [{ name: '10.0.0.1', connections: 2, bytes: 7000, shuntedBytes: 100, liveBytes: 3000 }],
      },
      rules: [rule],
      attacks: [attack, { ...attack, ended: 50 }],
    },
  };
  const server = createServer((request, response) => {
    const allowed = request.headers.authorization === 'Bearer 0123456789abcdef';
    response.writeHead(allowed ? 200 : 401).end(JSON.stringify(answers[request.url ?? '']));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const dir = mkdtempSync(join(tmpdir(), 'top-'));
  try {
    const token = join(dir, 'token');
    writeFileSync(token, '0123456789abcdef\n');
    const { port } = server.address() as AddressInfo;
    const from = ['top', '--once', '--interval', '200ms', '--from', String(port)];
    const { code, stdout } = await sluice(...from, '--json', '--token', token);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      kind: 'run',
      name: 'eth7',
      shunts: { live: 1, listed: true, top: [{ a: '10.0.0.1:1', ids: 'vni 5', bytes: 2000, pktRate: 0 }] },
      talkers: { seconds: 300, top: [{ host: '10.0.0.1', bytes: 10_000, dropped: 3100 }] },
      rules: [{ id: 'r1' }],
      attacks: [{ id: 'x-1', ended: null }],
    });
    const talkers = await sluice(...from, '--view', 'talkers', '--token', token);
    expect(talkers.stdout).toMatch(/10\.0 kB .* 10\.0\.0\.1$/m);
    expect((await sluice(...from)).code).toBe(1);
    expect((await sluice('top', '--view', 'nothing')).code).toBe(2);
  } finally {
    server.close();
    rmSync(dir, { recursive: true });
  }
});
