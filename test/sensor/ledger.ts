import { expect } from 'vitest';
import type { Lab } from '../../lab/lab.ts';
import type { TapName } from '../../lab/options.ts';
import type { RunSummary } from '../../src/sensor/report.ts';
import type { ConnLine } from './compare.ts';
import { sumOf } from './run.ts';

/**
 * The books of a run that saw all that a tap was given, against witnesses outside of them, exactly: what the mirror port
 * sent, what AF_PACKET received and dropped; and what conn.log says was shunted against what the gate says it dropped.
 */
export async function expectLedger(
  lab: Lab,
  tap: TapName,
  { ledger, ring, latePackets }: RunSummary,
  conn: readonly ConnLine[],
): Promise<void> {
  if (ledger === undefined) throw new Error('a run without a gate has no ledger');
  const { seen, reasons, ...verdicts } = ledger;
  const mirror = await lab.mirrorCounters(tap);
  expect(seen.pkts).toBe(mirror.txPackets);
  expect(Object.values(verdicts).reduce((sum, { pkts }) => sum + pkts, 0)).toBe(seen.pkts);
  const passes = Object.entries(reasons).filter(([verdict]) => verdict.startsWith('pass'));
  expect(passes.reduce((sum, [, { pkts }]) => sum + pkts, 0)).toBe(ledger.passed.pkts);
  // Those that it had no room for are among those that reached it.
  expect(ring.packets).toBe(ledger.passed.pkts);
  expect(sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts')).toBe(ledger.shunted.pkts);
  expect(latePackets).toBe(0);
}
