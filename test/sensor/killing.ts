import { appendFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Lab } from '../../lab/lab.ts';
import { monotonic } from '../../src/kernel/index.ts';
import { until } from '../support/kernel.ts';
import { DropWitness } from './drop-witness.ts';
import { documentOf, LedgerReader, type LogDir, pause, places, type Run, runOnTap, tapLink } from './run.ts';

export interface Kill {
  /** Comes to its end when the run, which is ready, is to be killed. */
  when: (run: Run) => Promise<void>;
  /** One more run is killed then, so many milliseconds after its start. */
  early?: number;
  /** The run is about to end then: where it has before it is killed, the next one is tried. */
  ends?: boolean;
}

/** Some thousand packets of the traffic. */
const AFTER_MS = 100;
const MOST_TRIES = 20;
const LOGS = ['conn', 'shunt', 'stats', 'notice'] as const;

const notices = (logs: LogDir, note: string): number =>
  logs.read('notice').filter((record) => record['note'] === note).length;

/** False when it had ended by itself, as it may when it was asked to. */
async function kill(lab: Lab, run: Run, witness?: DropWitness, ends = false): Promise<boolean> {
  const { code, signal } = await run.stop('SIGKILL');
  if (ends && code === 0) return false;
  expect(signal).toBe('SIGKILL');
  const ended = monotonic();
  // The link went with the process: nothing looks at a packet any more.
  expect((await tapLink(lab, 'a')).xdp).toBeUndefined();
  if (witness === undefined) return true;
  // Nor is one dropped, by somebody who would see it: not even until the lease is over.
  const { packets, last } = witness.all;
  expect(last).toBeLessThanOrEqual(ended);
  await pause(AFTER_MS);
  expect(witness.all.packets).toBe(packets);
  return true;
}

/** Starts a run after a kill: it cuts and notes every torn line, and goes on with every shunt that was left, or removes it. */
async function startAfterKill(lab: Lab, logs: LogDir): Promise<Run> {
  // What a write that was cut short leaves; the run before may have left one by itself.
  const path = join(logs.path, 'conn.log');
  if (existsSync(path) && logs.whole('conn')) appendFileSync(path, '{"ts":17');
  const torn = LOGS.filter((name) => !logs.whole(name));
  const told = notices(logs, 'Sluice::Torn_Line');
  const orphans = logs.shunts('orphaned');
  const removals = notices(logs, 'Sluice::Orphans');
  const run = await runOnTap(lab, 'a', logs).ready();
  const left = Number(/removed (\d+) shunts that an earlier run had left/.exec(run.stderr)?.[1] ?? 0);
  // What it says comes by one way, and what is in its logs by another.
  const counts = (): number[] => [
    notices(logs, 'Sluice::Torn_Line') - told,
    logs.shunts('orphaned') - orphans,
    notices(logs, 'Sluice::Orphans') - removals,
  ];
  const wanted = [torn.length, left, left > 0 ? 1 : 0];
  await until(
    () => counts().every((count, i) => count >= wanted[i]),
    `not all is in the logs: ${wanted.join()}`,
  );
  await until(() => LOGS.every((name) => logs.whole(name)), 'a log ends with a torn line');
  expect(counts()).toEqual(wanted);
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
    for (const { when, early, ends } of kills) {
      for (let tries = 0; ; tries++) {
        using witness = new DropWitness(run.process.pid as number, false);
        await when(run);
        const killed = await kill(lab, run, witness, ends);
        dropped += witness.all.packets;
        if (killed) break;
        if (tries === MOST_TRIES) throw new Error('every run has ended before it was killed');
        run = await runOnTap(lab, 'a', logs).ready();
      }
      if (early !== undefined) {
        run = runOnTap(lab, 'a', logs);
        await pause(early);
        await kill(lab, run);
      }
      run = await startAfterKill(lab, logs);
    }
    expect((await tapLink(lab, 'a')).xdp).toBeDefined();
    const started = logs.shunts('start');
    await until(() => logs.shunts('start') > started, 'nothing is shunted');
    using ledger = new LedgerReader('', pins);
    const before = ledger.read().shunted.pkts;
    await until(() => ledger.read().shunted.pkts > before, 'nothing that is shunted is dropped');
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
