import { expect } from 'vitest';
import { createLab } from '../../lab/lab.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { summaryText } from '../../src/sensor/report.ts';
import { expectLedger } from '../sensor/ledger.ts';
import { untilQuiet } from '../sensor/quiet.ts';
import { sumOf } from '../sensor/run.ts';
import { Sensor } from '../sensor/two-taps.ts';
import { kernelTest } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const TRANSFERS = 8;

const percent = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(2)} %`;
const ms = (seconds: number): string => `${(seconds * 1000).toFixed(0)} ms`;

/** The share of what was dropped. */
async function shareOfDropped(annotate: (message: string) => Promise<unknown>): Promise<number> {
  await using lab = await createLab();
  await using sensor = new Sensor(lab, 'a', []);
  await sensor.ready();
  const report = await runTraffic(lab, {
    name: 'long transfers',
    concurrency: 1,
    transfers: [
      { kind: 'https', tls: '1.3', bytes: 50e6, with: 'curl', count: 3 },
      { kind: 'https', tls: '1.2', bytes: 50e6, family: 6, count: 3 },
      { kind: 'https', tls: '1.3', bytes: 80e6, direction: 'upload', with: 'curl', count: 2 },
    ],
  });
  expect(report.errors).toEqual([]);
  await untilQuiet(lab);
  expect(await sensor.stop()).toBe(0);
  const summary = sensor.summary();
  const conn = sensor.log('conn');
  await expectLedger(lab, 'a', summary, conn);

  const transfers = conn.filter((r) => r['service'] === 'ssl');
  expect(transfers.length).toBe(TRANSFERS);
  const ends = new Map(
    sensor
      .log('shunt')
      // One that has dropped nothing has none.
      .filter((r) => r['event'] === 'end' && r['delay'] !== undefined)
      .map((r) => [r['uid'], Number(r['delay'])]),
  );
  for (const r of transfers) {
    const all = sumOf([r], 'orig_ip_bytes', 'resp_ip_bytes');
    const dropped = sumOf([r], 'orig_shunted_bytes', 'resp_shunted_bytes');
    const delay = ends.get(r['uid']);
    // By the gate's clock, which shows the tick before: at once may be within a tick. None: the share will tell of it.
    expect(delay ?? 0).toBeGreaterThanOrEqual(0);
    await annotate(
      `${percent(dropped, all)} of ${Math.round(all / 1e6)} MB in ${Number(r['duration']).toFixed(2)} s dropped, ` +
        `from ${ms(delay ?? 0)} after the triggering packet on`,
    );
  }
  const all = sumOf(transfers, 'orig_ip_bytes', 'resp_ip_bytes');
  const dropped = sumOf(transfers, 'orig_shunted_bytes', 'resp_shunted_bytes');
  await annotate(`${percent(dropped, all)} in all`);
  expect(all).toBeGreaterThan(450e6);

  // The time from the triggering packet to the first dropped one, for programs and for people.
  const delays = [...ends.values()].sort((a, b) => a - b);
  const { shunts, median, p99 } = summary.timeToDrop ?? { shunts: 0, median: 0, p99: 0 };
  expect(shunts).toBe(delays.length);
  // shunt.log has microseconds.
  expect(median).toBeCloseTo(delays[Math.floor(delays.length / 2)], 5);
  expect(p99).toBeCloseTo(delays.at(-1) ?? 0, 5);
  const text = summaryText(summary, { paint: (_, words) => words });
  const line = text.split('\n').find((each) => each.startsWith('time to drop'));
  await annotate(line ?? '');
  expect(line).toContain(
    `median ${ms(median)}, p99 ${ms(p99)} from the triggering packet (${shunts} shunts)`,
  );
  return dropped / all;
}

kernelTest(
  '95 % and more of the bytes of long HTTPS transfers at 1 Gb/s are dropped in XDP',
  [...FEATURES],
  async ({ annotate }) => {
    expect(await shareOfDropped(annotate)).toBeGreaterThan(0.95);
  },
);
