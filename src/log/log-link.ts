import type { MessagePort } from 'node:worker_threads';
import type { SluiceError } from '../base/errors.ts';
import type { MovedLog } from './log-files.ts';
import type { LogName, LogTarget, LogTotals, TornLine } from './target.ts';

/** One way into the log thread; send it to a worker with `port` in the transfer list. */
export interface LogLink {
  port: MessagePort;
  /** One 32-bit word: bytes that the log thread has taken over this link, modulo 2^32. */
  taken: SharedArrayBuffer;
}

/** Messages to the log thread, over its own port (control) or a link (lines). */
export type ToLogThread =
  | { kind: 'lines'; log: LogName; bytes: Uint8Array; count: number }
  | { kind: 'link'; link: LogLink }
  | { kind: 'flush' | 'close'; id: number };

export type FromLogThread =
  | { kind: 'ready'; torn: readonly TornLine[] }
  | { kind: 'unusable'; code: SluiceError['code']; message: string; cause: string; help: string | undefined }
  | { kind: 'done'; id: number; totals: LogTotals }
  /** The disk has begun to fail (its error), or has recovered (undefined). */
  | { kind: 'disk'; problem: string | undefined; totals: LogTotals }
  /** Somebody has moved a log away. */
  | ({ kind: 'moved' } & MovedLog)
  /** A sink likewise. */
  | { kind: 'sink'; name: string; problem: string | undefined };

/** Bytes under way to a log thread that does not keep up, beyond which lines are dropped and counted. */
const MOST_UNDER_WAY = 64 * 2 ** 20;

/** Hands lines to the log thread: no file, no waiting, in whichever thread it is used. */
export class LinkTarget implements LogTarget {
  readonly #port: MessagePort;
  readonly #taken: Int32Array;
  readonly #most: number;
  #sent = 0;
  #lost = 0;
  #peak = 0;

  constructor(link: LogLink, mostUnderWay = MOST_UNDER_WAY) {
    this.#port = link.port;
    this.#taken = new Int32Array(link.taken);
    this.#most = mostUnderWay;
  }

  get lost(): number {
    return this.#lost;
  }

  /** Bytes that the log thread has not taken yet. */
  get underWay(): number {
    return (this.#sent - Atomics.load(this.#taken, 0)) | 0;
  }

  /** The most that was ever under way: how far the log thread has fallen behind. */
  get peak(): number {
    return this.#peak;
  }

  append(log: LogName, lines: Uint8Array, count: number): void {
    const coming = this.underWay + lines.length;
    if (coming > this.#most) {
      this.#lost += count;
      return;
    }
    if (coming > this.#peak) this.#peak = coming;
    this.#sent = (this.#sent + lines.length) | 0;
    const bytes = new Uint8Array(lines);
    const message: ToLogThread = { kind: 'lines', log, bytes, count };
    this.#port.postMessage(message, [bytes.buffer]);
  }

  close(): void {
    this.#port.close();
  }
}
