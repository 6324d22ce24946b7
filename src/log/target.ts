import type { SinkTotals } from './sinks/sink.ts';

/** The logs that Sluice writes; `conn` is `conn.log` in the log directory. */
export const LOG_NAMES = ['conn', 'ssl', 'tunnel', 'shunt', 'stats', 'capture_loss', 'notice'] as const;
export type LogName = (typeof LOG_NAMES)[number];

/** Where whole lines go: files in this thread, or the log thread. */
export interface LogTarget {
  /**
   * Takes whole lines, each with its newline. The memory is the target's only during the call. Never throws for
   * what the disk does: what cannot be written waits or is counted as lost.
   */
  append(log: LogName, lines: Uint8Array, count: number): void;
  /** Lines that will not be written, as far as known here. */
  readonly lost: number;
}

/** A torn last line that was cut off when a log was opened (or passed over when it was read). */
export interface TornLine {
  path: string;
  /** How many bytes of a line had been written. */
  bytes: number;
}

/** What became of the lines given to a set of log files. */
export interface LogTotals {
  lines: number;
  bytes: number;
  /** Lines that were dropped, as the disk did not take them in time or the queue was full. */
  lost: number;
  /** Lines that wait for the disk. */
  waiting: number;
  /** Writes that the system refused. */
  failures: number;
  /** Files begun because of size or time. */
  rotations: number;
  /** What became of the lines beside the files; absent without sinks. */
  sinks?: readonly SinkTotals[];
}
