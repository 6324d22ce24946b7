import { expect } from 'vitest';
import { createLab } from '../../lab/lab.ts';
import type { LabOptions } from '../../lab/options.ts';
import { mixedPlan } from '../../lab/plan.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { setThreadAffinity } from '../../src/kernel/index.ts';
import type { RunSummary } from '../../src/sensor/report.ts';
import { type Comparison, compare } from './compare.ts';
import { bothTaps } from './two-taps.ts';

/** So that connections that stay open end by silence within the test, on both taps. */
const TIMEOUT = ['--timeout-tcp', '5s', '--timeout-udp', '5s', '--timeout-icmp', '5s'];
const SILENCE_MS = 7500;
/** Frames that the machine under the lab delivers late to one tap: they show on connections that no gate touched, too. */
const LATE_SHARE = 0.005;
const LATE_SECONDS = 0.02;

export interface Lossless extends Comparison {
  summary: RunSummary;
}

/**
 * Both taps of one lab see the same frames; one has a gate. Every connection's record must be the same, and the
 * ledger must add up to what the mirror port sent and the ring received. At least 1,000 connections.
 */
export async function lossless(options: LabOptions, trace?: string): Promise<Lossless> {
  await using lab = await createLab(options);
  // The hub keeps its CPU for itself: then both taps get each frame at nearly the same time.
  setThreadAffinity(1);
  const { gated, plain } = await bothTaps(lab, TIMEOUT, async () => {
    if (trace === undefined) {
      const report = await runTraffic(lab, mixedPlan());
      expect(report.failures).toBe(0);
    } else {
      const { refused } = await lab.replay(trace, { mbps: 700 });
      expect(refused).toBe(0);
    }
    await new Promise((resolve) => setTimeout(resolve, SILENCE_MS));
  });
  await using _gated = gated;
  await using _plain = plain;
  const result = compare(gated.log('conn'), plain.log('conn'));
  const summary = gated.summary();
  const witness = plain.summary();

  // The ledger against witnesses outside of it.
  const mirror = await lab.mirrorCounters('a');
  const { ledger, ring } = summary;
  expect(ledger?.seen.pkts).toBe(mirror.txPackets);
  expect(ledger?.passed.pkts).toBe(ring.packets);
  expect(ring.drops).toBe(0);
  expect((ledger?.passed.pkts ?? 0) + (ledger?.shunted.pkts ?? 0) + (ledger?.aborted.pkts ?? 0)).toBe(
    mirror.txPackets,
  );
  expect(witness.ring.packets).toBe((await lab.mirrorCounters('b')).txPackets);
  // What conn.log says was shunted is what the gate says it dropped, packet by packet.
  const logged = gated
    .log('conn')
    .reduce((sum, r) => sum + Number(r['orig_shunted_pkts'] ?? 0) + Number(r['resp_shunted_pkts'] ?? 0), 0);
  expect(logged).toBe(ledger?.shunted.pkts);
  expect(summary.latePackets).toBe(0);

  expect(result.differences).toEqual([]);
  expect(result.late.length, result.late.join('\n')).toBeLessThanOrEqual(
    Math.ceil(result.connections * LATE_SHARE),
  );
  expect(result.largestClosed).toBeLessThan(LATE_SECONDS);
  expect(result.connections).toBeGreaterThanOrEqual(trace === undefined ? 1000 : 1);
  return { ...result, summary };
}
