import { describe, expect, test } from 'vitest';
import type { LossTable } from '../../src/gate/losses/index.ts';
import { LossAlarms } from '../../src/sensor/losses/alarms.ts';
import { type AckCounts, CaptureLossWatch } from '../../src/sensor/losses/capture-loss.ts';
import { reportLines } from '../../src/sensor/losses/index.ts';

/** Workers of one source that count nothing by themselves. */
function workers(count: number): {
  counts: () => AckCounts[];
  seen: (worker: number, acks: number, gaps: number) => void;
} {
  const all = Array.from({ length: count }, (_, number) => ({ peer: `eth1-${number}`, acks: 0, gaps: 0 }));
  return {
    counts: () => all,
    seen: (worker, acks, gaps) => {
      all[worker].acks += acks;
      all[worker].gaps += gaps;
    },
  };
}

describe('capture_loss.log', () => {
  test('differences of each interval, by worker', () => {
    const { counts, seen } = workers(2);
    const watch = new CaptureLossWatch(counts, 60, 10);
    const told: string[] = [];
    const look = (now: number, last = false) => watch.look(now, (note) => told.push(note), last);
    expect(look(1000)).toEqual([]);
    seen(0, 100, 1);
    seen(1, 50, 0);
    expect(look(1059)).toEqual([]);
    expect(look(1060)).toEqual([
      { ts: 1060, tsDelta: 60, peer: 'eth1-0', gaps: 1, acks: 100, percentLost: 1 },
      { ts: 1060, tsDelta: 60, peer: 'eth1-1', gaps: 0, acks: 50, percentLost: 0 },
    ]);
    seen(0, 10, 10);
    expect(look(1070, true)).toMatchObject([
      { tsDelta: 10, gaps: 10, acks: 10, percentLost: 100 },
      { tsDelta: 10, acks: 0, percentLost: 0 },
    ]);
    // The end is no news.
    expect(told).toEqual([]);
  });

  test('tells once of too much loss, and below half of it that it is over; and of silence', () => {
    const { counts, seen } = workers(1);
    const watch = new CaptureLossWatch(counts, 1, 10);
    const told: string[] = [];
    let now = 0;
    const round = (acks: number, gaps: number): string[] => {
      told.length = 0;
      seen(0, acks, gaps);
      watch.look(++now, (note) => told.push(note.replace('CaptureLoss::', '')));
      return [...told];
    };
    watch.look(now, () => {});
    expect(round(100, 9)).toEqual([]);
    expect(round(100, 10)).toEqual(['Too_Much_Loss']);
    expect(round(100, 50)).toEqual([]);
    expect(round(100, 6)).toEqual([]);
    expect(round(100, 4)).toEqual(['Loss_Over']);
    expect(round(100, 9)).toEqual([]);
    expect(round(0, 0)).toEqual(['Too_Little_Traffic']);
    expect(round(0, 0)).toEqual([]);
    expect(round(10, 0)).toEqual([]);
    expect(round(0, 0)).toEqual(['Too_Little_Traffic']);
  });
});

interface Counts {
  received?: number;
  ring?: number;
  nic?: number;
  softnet?: number;
  lines?: number;
  lease?: number;
  shunted?: number;
}

function tableOf(at: number, counts: Counts): LossTable {
  const row = { where: 'eth1', rate: 0, unit: 'packets', kind: 'loss' } as const;
  return {
    at,
    seconds: at,
    interval: 1,
    lost: { packets: counts.ring ?? 0, rate: 0 },
    wanted: { packets: counts.shunted ?? 0, rate: 0 },
    rows: [
      { ...row, stage: 'nic', counter: 'missed.rx_missed_errors', total: counts.nic ?? 0 },
      { ...row, stage: 'softnet', counter: 'dropped', total: counts.softnet ?? 0 },
      { ...row, stage: 'softnet', counter: 'squeezed', kind: 'warning', unit: 'events', total: 1e6 },
      { ...row, stage: 'gate', counter: 'shunted', kind: 'wanted', total: counts.shunted ?? 0 },
      { ...row, stage: 'gate', counter: 'reason.passLease', kind: 'count', total: counts.lease ?? 0 },
      { ...row, stage: 'capture', counter: 'received', kind: 'count', total: counts.received ?? 0 },
      { ...row, stage: 'capture', counter: 'ringFull', total: counts.ring ?? 0 },
      { ...row, stage: 'log', counter: 'diskLost', unit: 'lines', total: counts.lines ?? 0 },
    ],
  };
}

/** What is told of ten seconds in which so much was counted, one after the other. */
const rounds = (all: readonly Counts[]): string[][] => {
  const alarms = new LossAlarms(1);
  const sum: Required<Counts> = {
    received: 0,
    ring: 0,
    nic: 0,
    softnet: 0,
    lines: 0,
    lease: 0,
    shunted: 0,
  };
  let at = 100;
  alarms.look(tableOf(at, sum), () => {});
  return all.map((counts) => {
    const told: string[] = [];
    for (const [name, more] of Object.entries(counts)) sum[name as keyof Counts] += more;
    // Once a second, it is looked at.
    for (let second = 0; second < 10; second++)
      alarms.look(tableOf(++at, sum), (note) => told.push(note.replace('Sluice::', '')));
    return told;
  });
};

describe('alarms', () => {
  test('each place by itself, with hysteresis', () => {
    expect(
      rounds([
        { received: 1000, ring: 9 },
        { received: 990, ring: 10 },
        { received: 990, ring: 10 },
        { received: 994, ring: 6 },
        { received: 1000, ring: 4, nic: 100 },
        { received: 1000 },
        { softnet: 1 },
      ]),
    ).toEqual([
      [],
      ['Capture_Loss'],
      [],
      [],
      ['NIC_Loss', 'Capture_Loss_Over'],
      ['NIC_Loss_Over'],
      ['Kernel_Loss'],
    ]);
  });

  test('lines of logs, lapsed leases; what is shunted and squeezed is nothing', () => {
    expect(
      rounds([
        { received: 10, shunted: 1e6 },
        { received: 10, lines: 1, lease: 3 },
        { received: 10, lines: 5, lease: 1 },
        { received: 10 },
      ]),
    ).toEqual([[], ['Log_Loss', 'Lease_Lapsed'], [], ['Log_Loss_Over', 'Lease_Held']]);
  });
});

describe('the summary', () => {
  const quiet = { order: [] };
  test('one line when nothing was lost', () => {
    const table = tableOf(1, { received: 100, shunted: 5 });
    const rows = table.rows.filter(({ counter }) => counter !== 'squeezed');
    expect(reportLines({ ...table, ...quiet, rows })).toEqual([
      ['lost', 'nothing, from the card to the logs'],
    ]);
  });

  test('each counter when something was, warnings apart, order by worker', () => {
    const order = {
      source: 'eth1',
      worker: 0,
      packets: 100,
      byTime: { packets: 1, share: 0.01, seconds: 0.002 },
      byTcp: { segments: 0, share: 0, bytes: 0 },
      queues: [
        { queue: 0, packets: 50, byTime: { packets: 0, share: 0, seconds: 0 } },
        { queue: 3, packets: 50, byTime: { packets: 1, share: 0.02, seconds: 0.0015 } },
      ],
    };
    const lines = reportLines({ ...tableOf(1, { received: 75, ring: 25, lines: 3 }), order: [order] });
    expect(lines).toEqual([
      ['lost', '25 packets (25.00 %)'],
      ['  capture', 'eth1: ringFull 25 packets'],
      ['  logs', 'eth1: diskLost 3 lines'],
      ['noted', 'softnet eth1: squeezed 1,000,000 events (in no sum)'],
      ['out of order', 'eth1 worker 0, queue 3: 2.00 % by time, up to 1.5 ms'],
      ['out of order', 'eth1 worker 0: 1.00 % by time, up to 2.0 ms'],
    ]);
  });
});
