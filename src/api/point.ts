import type { LiveSourceView } from '../sensor/live.ts';
import type { Status } from './shapes.ts';

/** What becomes of a packet at the gate, in the order of `Point.pkts` and `Point.bits`. */
export const OUTCOMES = ['passed', 'shunted', 'ruleDropped', 'rateLimited', 'steered', 'aborted'] as const;

/** One second of a run, as the history keeps it and the stream brings it. Rates are per second. */
export interface Point {
  /** Seconds since 1970 of its end. */
  t: number;
  /** By OUTCOMES; L2 bits. Without a gate all is passed. */
  pkts: number[];
  bits: number[];
  /** Handled by the workers. */
  sensorPkts: number;
  sensorBits: number;
  /** Packets that were lost between the card and a worker, in all and not per second: their sum is what the ledger has. */
  lost: number;
  open: number;
  live: number;
  /** Processors in use by the process, and by each worker (null: not known), in the order of `/v1/sources`. */
  cpus: number;
  workers: (number | null)[];
}

/** A status with what its workers have used by then. */
export interface Reading {
  status: Status;
  cpu: readonly (number | null)[];
}

export function workerCpu(sources: readonly LiveSourceView[]): (number | null)[] {
  return sources.flatMap(({ workers }) => workers.map(({ cpuSeconds }) => cpuSeconds));
}

/** What happened between two readings, per second. */
export function pointOf(before: Reading, now: Reading): Point {
  const seconds = Math.max(0.001, now.status.at - before.status.at);
  // Counters of several CPUs are read one after the other: a sum may stand still, it never goes back.
  const per = (value: (s: Status) => number): number =>
    Math.max(0, (value(now.status) - value(before.status)) / seconds);
  const by = (of: 'pkts' | 'bytes', factor: number): number[] =>
    OUTCOMES.map((outcome) => Math.round(factor * per((s) => outcomeOf(s, outcome)[of])));
  return {
    t: Math.round(now.status.at * 1000) / 1000,
    pkts: by('pkts', 1),
    bits: by('bytes', 8),
    sensorPkts: Math.round(per((s) => s.packets)),
    sensorBits: Math.round(8 * per((s) => s.bytes)),
    lost: Math.max(0, now.status.losses.packets - before.status.losses.packets),
    open: now.status.connections.open,
    live: now.status.shunts.live,
    cpus: share(per((s) => s.cpuSeconds)),
    workers: now.cpu.map((used, i) => {
      const then = before.cpu[i];
      return used === null || typeof then !== 'number' ? null : share(Math.max(0, (used - then) / seconds));
    }),
  };
}

const share = (value: number): number => Math.round(value * 1000) / 1000;

function outcomeOf(
  { ledger, packets, bytes }: Status,
  outcome: (typeof OUTCOMES)[number],
): { pkts: number; bytes: number } {
  if (ledger !== null) return ledger[outcome];
  return outcome === 'passed' ? { pkts: packets, bytes } : { pkts: 0, bytes: 0 };
}
