import type { LogName } from '../target.ts';

/** What became of the records given to a sink. */
export interface SinkTotals {
  name: string;
  /** Handed to the network. */
  sent: number;
  /** There was no room in the queue, or it did not arrive before the end. */
  lost: number;
  waiting: number;
  /** Connections that broke or could not be made. */
  failures: number;
}

/** Told when it begins to fail, and (with undefined) when it takes records again. */
export type SinkListener = (name: string, problem: string | undefined) => void;

/** Where records go beside the files: never waits, never throws. */
export interface LogSink {
  /** Whole JSON lines of one log; the memory is the caller's again after the call. */
  append(log: LogName, lines: Uint8Array, records: number): void;
  totals(): SinkTotals;
  /** Resolves when what waits has been sent, or has had its time. */
  close(): Promise<void>;
}

/** Seconds between two tries: twice as long each time, up to 30, with a random part so that many do not come at once. */
export function pauseAfter(failures: number, random = Math.random()): number {
  return Math.min(30, 0.5 * 2 ** Math.min(failures - 1, 8)) * (0.5 + random / 2);
}

/** Milliseconds that a sink has at the end. */
export const LAST_CHANCE_MS = 2000;
