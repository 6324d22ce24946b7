import { expect } from 'vitest';
import { createLab } from '../../lab/lab.ts';
import type { LabOptions } from '../../lab/options.ts';
import { mixedPlan } from '../../lab/plan.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { coarseStep, realtimeOffset, setThreadAffinity } from '../../src/kernel/index.ts';
import type { RunSummary } from '../../src/sensor/report.ts';
import { type Comparison, type ConnLine, compare, type Held, key } from './compare.ts';
import { DropWitness } from './drop-witness.ts';
import { expectLedger } from './ledger.ts';
import { sumOf } from './run.ts';
import { bothTaps, type Sensor } from './two-taps.ts';

/** So that connections that stay open end by silence within the test, on both taps. */
const TIMEOUT = ['--timeout-tcp', '5s', '--timeout-udp', '5s', '--timeout-icmp', '5s'];
const SILENCE_MS = 7500;
/** A stall of a sensor on a machine with other work loses nothing: the ring has room for all that there is. */
const RING = ['--ring-bytes', '256MiB'];
/** Slow enough for a busy machine to shunt most of what is long before it ends. */
const MBPS = 150;

export interface Lossless extends Comparison {
  summary: RunSummary;
}

/**
 * How late the kernel's tick may have come between the gate's look at the clock and the witness's, who then sees nothing of it:
 * as late as it came at any time in this run, no more than the stamps of what is closed may differ by.
 */
const UNSEEN_SECONDS = 0.0005;

const late = (behind: number): number => Math.max(0, behind - coarseStep());

/** See Held. */
function heldBy(witness: DropWitness): Held {
  const unseen = Math.min(late(witness.all.behind), UNSEEN_SECONDS);
  return (reference: ConnLine) => {
    const drop = witness.last(reference);
    if (drop === undefined) return 0;
    const stamped = reference.ts + Number(reference['duration']);
    return Math.max(0, drop.seconds + realtimeOffset() - stamped) + Math.max(late(drop.behind), unseen);
  };
}

/** A tunnel over UDP, whose record has what was dropped inside of it as well. */
const isCarrier = (line: ConnLine): boolean => /vxlan|geneve/.test(String(line['service']));

const droppedOf = (lines: readonly ConnLine[]): number =>
  sumOf(lines, 'orig_shunted_pkts', 'resp_shunted_pkts');

/** Connections are in the same tunnels; and what was dropped inside of these is all that was dropped. */
function expectTunnels(gated: Sensor, plain: Sensor, overUdp: boolean): void {
  const [a, b] = [gated, plain].map((sensor) => {
    const conn = sensor.log('conn');
    const names = new Map([...conn, ...sensor.log('tunnel')].map((line) => [line['uid'], key(line)]));
    const around = (line: ConnLine): string =>
      ((line['tunnel_parents'] ?? []) as string[]).map((uid) => names.get(uid) ?? 'unknown').join(', ');
    return conn.map((line) => `${key(line)} in ${around(line)}`).sort();
  });
  expect(a).toEqual(b);
  expect(a.filter((line) => !line.endsWith(' in ')).length).toBeGreaterThanOrEqual(1000);
  if (!overUdp) return;
  const conn = gated.log('conn');
  expect(droppedOf(conn.filter(isCarrier))).toBe(droppedOf(conn.filter((line) => !isCarrier(line))));
}

/**
 * Both taps of one lab see the same frames, with the same time stamps; one has a gate. Every connection's record must be
 * the same, and the ledger must add up to what the mirror port sent and the ring received. At least 1,000 connections.
 * `trace` is replayed in place of traffic; `slow` makes the way from the gate to the ring a long one; `gated` are more options
 * of the sensor with the gate, `both` of both.
 */
export async function lossless(
  options: LabOptions,
  {
    trace,
    slow = false,
    gated: more = [],
    both = [],
  }: { trace?: string; slow?: boolean; gated?: readonly string[]; both?: readonly string[] } = {},
): Promise<Lossless> {
  await using lab = await createLab({ oneStamp: true, mbps: MBPS, ...options });
  // The hub keeps its CPU for itself.
  setThreadAffinity(1);
  using witnesses = new DisposableStack();
  let dropped!: DropWitness;
  const { gated, plain } = await bothTaps(
    lab,
    { both: [...TIMEOUT, ...RING, ...both], gated: more },
    async (sensor) => {
      dropped = witnesses.use(
        new DropWitness(sensor.process.pid as number, slow, options.tunnel?.headers.length),
      );
      if (trace === undefined) {
        const report = await runTraffic(lab, { ...mixedPlan(), maxSeconds: 240 });
        expect(report.errors).toEqual([]);
      } else {
        const { refused } = await lab.replay(trace, { mbps: MBPS });
        expect(refused).toBe(0);
      }
      await new Promise((resolve) => setTimeout(resolve, SILENCE_MS));
    },
  );
  await using _gated = gated;
  await using _plain = plain;
  const result = compare(gated.log('conn'), plain.log('conn'), heldBy(dropped));
  const summary = gated.summary();
  const witness = plain.summary();

  await expectLedger(
    lab,
    'a',
    summary,
    gated.log('conn').filter((line) => !isCarrier(line)),
  );
  if (options.tunnel !== undefined) expectTunnels(gated, plain, (options.tunnel.sources ?? 0) > 0);
  expect(summary.ring.drops).toBe(0);
  expect(witness.ring.packets).toBe((await lab.mirrorCounters('b')).txPackets);
  // Packet by packet, by somebody who saw them dropped.
  expect(dropped.all.packets).toBe(summary.ledger?.shunted.pkts);

  expect(result.differences).toEqual([]);
  const shunts = gated.log('shunt').map((line) => JSON.stringify(line));
  const uids = result.late.map((text) => /"uid":"(\w+)"/.exec(text)?.[1] ?? text);
  expect({
    late: result.late,
    shunts: shunts.filter((line) => uids.some((uid) => line.includes(uid))),
  }).toEqual({
    late: [],
    shunts: [],
  });
  expect(result.connections).toBeGreaterThanOrEqual(1000);
  return { ...result, summary };
}
