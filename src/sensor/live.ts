import { monotonicSeconds } from '../gate/clock.ts';
import type { LineListener, LogWatch } from '../log/log-watch.ts';
import type { LogName } from '../log/target.ts';
import type { LiveGate } from './live-gate.ts';
import type { LossReport } from './losses/index.ts';
import { Stat } from './setup.ts';
import type { Snapshot } from './snapshot.ts';
import type { EarlyDrop, Station } from './station.ts';
import type { RunTallies } from './tallies.ts';
import { UdpStat } from './udp-books.ts';

/** One worker of a source as it is now. */
export interface LiveWorkerView {
  /** Packets and bytes that it handled, and packets that found no room before it. */
  packets: number;
  bytes: number;
  dropped: number;
  /** CPU seconds of its thread; null where Node.js cannot tell. */
  cpuSeconds: number | null;
  /** Seconds since it finished a turn. */
  idle: number;
}

/** One source of a run as it is now. */
export interface LiveSourceView {
  name: string;
  kind: 'interface' | 'udp';
  /** How the gate is attached; `none` without one. */
  mode: string;
  drop: EarlyDrop;
  capture: string;
  workers: LiveWorkerView[];
}

/** A run while it runs, for whoever shows it. */
export interface LiveRun {
  /** Seconds since the epoch. */
  readonly started: number;
  /** Every worker has made progress a short while ago. */
  healthy(): boolean;
  /** From the first packet that is captured until the end begins. */
  ready(): boolean;
  snapshot(): Snapshot;
  sources(): LiveSourceView[];
  /** As of the last second. */
  losses(): LossReport;
  /** Those that can be asked. */
  gates(): LiveGate[];
  readonly tallies: RunTallies;
  readonly logDir: string;
  /** Lines of the logs are JSON. */
  readonly jsonLogs: boolean;
  /** Lines of these logs as they are written; undefined once they are closed. */
  watchLogs(logs: readonly LogName[], seen: LineListener): LogWatch | undefined;
}

/** Opens what shows a run; it is closed before the run lets go of anything. */
export type Onlooker = (run: LiveRun) => Promise<AsyncDisposable>;

/** @see Station */
export function sourceView({ name, kind, mode, earlyDrop, capture, stats }: Station): LiveSourceView {
  const now = monotonicSeconds();
  const dropped = kind === 'udp' ? Stat.source + UdpStat.dropped : Stat.ringDrops;
  return {
    name,
    kind,
    mode,
    drop: earlyDrop,
    capture,
    workers: stats.map((of) => ({
      packets: of[Stat.packets],
      bytes: of[Stat.bytes],
      dropped: of[dropped],
      cpuSeconds: Number.isNaN(of[Stat.cpu]) ? null : of[Stat.cpu],
      idle: Math.max(0, now - of[Stat.lastTurn]),
    })),
  };
}
