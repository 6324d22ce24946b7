import { appendFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Lab } from '../../lab/lab.ts';
import { monotonic } from '../../src/kernel/index.ts';
import { until } from '../support/kernel.ts';
import { DropWitness } from './drop-witness.ts';
import { documentOf, type LogDir, pause, places, type Run, runOnTap, tapLink } from './run.ts';

export interface Kill {
  /** Comes to its end when the run, which is ready, is to be killed. */
  when: (run: Run) => Promise<void>;
  /** One more run is killed then, so many milliseconds after its start. */
  early?: number;
}

/** Some thousand packets of the traffic. */
const AFTER_MS = 100;
const LOGS = ['conn', 'shunt', 'stats', 'notice'] as const;

const notices = (logs: LogDir, note: string): number =>
  logs.read('notice').filter((record) => record['note'] === note).length;

async function kill(lab: Lab, run: Run, witness?: DropWitness): Promise<void> {
  expect((await run.stop('SIGKILL')).signal).toBe('SIGKILL');
  const ended = monotonic();
  // The link went with the process: nothing looks at a packet any more.
  expect((await tapLink(lab, 'a')).xdp).toBeUndefined();
  if (witness === undefined) return;
  // Nor is one dropped, by somebody who would see it: not even until the lease is over.
  const { packets, last } = witness.all;
  expect(last).toBeLessThanOrEqual(ended);
  await pause(AFTER_MS);
  expect(witness.all.packets).toBe(packets);
}

/** Starts a run after a kill: it cuts and notes every torn line, and goes on with every shunt that was left, or removes it. */
async function startAfterKill(lab: Lab, logs: LogDir): Promise<Run> {
  // What a write that was cut short leaves; the run before may have left one by itself.
  const path = join(logs.path, 'conn.log');
  if (existsSync(path) && logs.whole('conn')) appendFileSync(path, '{"ts":17');
  const torn = LOGS.filter((name) => !logs.whole(name));
  const told = notices(logs, 'Sluice::Torn_Line');
  const orphans = logs.shunts('orphaned');
  const run = await runOnTap(lab, 'a', logs).ready();
  await pause(200);
  const left = Number(/removed (\d+) shunts that an earlier run had left/.exec(run.stderr)?.[1] ?? 0);
  expect(LOGS.filter((name) => !logs.whole(name))).toEqual([]);
  expect(notices(logs, 'Sluice::Torn_Line')).toBe(told + torn.length);
  expect(logs.shunts('orphaned')).toBe(orphans + left);
  return run;
}

/** Each connection has one record at most, whatever was killed while it lasted. */
export function expectOneRecordEach(logs: LogDir): void {
  const uids = logs.read('conn').map((record) => record['uid']);
  expect(new Set(uids).size).toBe(uids.length);
}

/** Starts runs and kills them after so many milliseconds, ready or not: nothing of them may act any more. */
export async function killOften(lab: Lab, logs: LogDir, times: number, ms: () => number): Promise<void> {
  for (let i = 0; i < times; i++) {
    const run = runOnTap(lab, 'a', logs);
    await pause(ms());
    expect(run.running, run.stderr).toBe(true);
    await kill(lab, run);
  }
}

/**
 * Kills runs on one tap, with one set of logs, while traffic flows; stops the last one as one should. Resolves to how
 * many connections were gone on with by the last one, and how many packets the killed ones were seen to drop.
 */
export async function killAt(
  lab: Lab,
  logs: LogDir,
  kills: readonly Kill[],
): Promise<{ recovered: number; dropped: number }> {
  const { ifindex } = await tapLink(lab, 'a');
  const { pins, lock } = places(ifindex, lab.namespace('tapA').inode);
  let run = await runOnTap(lab, 'a', logs).ready();
  let recovered = 0;
  let dropped = 0;
  try {
    for (const { when, early } of kills) {
      using witness = new DropWitness(run.process.pid as number, false);
      await when(run);
      await kill(lab, run, witness);
      dropped += witness.all.packets;
      if (early !== undefined) {
        run = runOnTap(lab, 'a', logs);
        await pause(early);
        await kill(lab, run);
      }
      run = await startAfterKill(lab, logs);
    }
    expect((await tapLink(lab, 'a')).xdp).toBeDefined();
    const started = logs.shunts('start');
    await until(() => logs.shunts('start') > started, 'nothing is shunted', 20);
    await pause(500);
    const ended = await run.stop();
    expect(ended).toMatchObject({ code: 0, signal: null });
    const summary = documentOf(ended);
    expect(summary.connections).toBeGreaterThan(0);
    expect(summary.ledger?.shunted.pkts).toBeGreaterThan(0);
    expect(summary.latePackets).toBe(0);
    recovered = summary.recovered;
    expect((await tapLink(lab, 'a')).xdp).toBeUndefined();
    expect(existsSync(pins) || existsSync(lock)).toBe(false);
    expectOneRecordEach(logs);
  } finally {
    await run[Symbol.asyncDispose]();
  }
  expect(notices(logs, 'Sluice::Orphans') > 0).toBe(logs.shunts('orphaned') > 0);
  return { recovered, dropped };
}
