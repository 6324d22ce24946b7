import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { SluiceError } from '../base/errors.ts';
import type { MovedLog } from './log-files.ts';
import type { LogName, LogTarget, LogTotals, TornLine } from './target.ts';

/** One way for lines, into the log thread or out of it; send it to a worker with `port` in the transfer list. */
export interface LogLink {
  port: MessagePort;
  /** Two 32-bit words, modulo 2^32: bytes that whoever reads has taken over this link, lines that found no room. */
  books: SharedArrayBuffer;
}

/** The words of `LogLink.books`. */
const TAKEN = 0;
const LOST = 1;

/** The two ends of a new link. */
export function newLink(): { ours: LogLink; theirs: LogLink } {
  const { port1, port2 } = new MessageChannel();
  const books = new SharedArrayBuffer(8);
  return { ours: { port: port1, books }, theirs: { port: port2, books } };
}

/** Lines that found no room in a link, by its books. */
export function linesLost(books: ArrayBufferLike): number {
  return new Uint32Array(books)[LOST];
}

/** Whoever reads from a link has taken so many bytes of lines. */
export function noteTaken({ books }: LogLink, bytes: number): void {
  Atomics.add(new Int32Array(books), TAKEN, bytes);
}

/** Messages to the log thread, over its own port (control) or a link (lines). */
export type ToLogThread =
  | { kind: 'lines'; log: LogName; bytes: Uint8Array; count: number }
  | { kind: 'link'; link: LogLink }
  /** Lines of these logs are to come over this link as well, until it is closed. */
  | { kind: 'watch'; link: LogLink; logs: readonly LogName[] }
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

/** Bytes under way to who does not keep up, beyond which lines are dropped and counted. */
const MOST_UNDER_WAY = 64 * 2 ** 20;

/** Hands lines to the other end of a link: no file, no waiting, in whichever thread it is used. */
export class LinkTarget implements LogTarget {
  readonly #port: MessagePort;
  readonly #books: Int32Array;
  readonly #most: number;
  #sent = 0;
  #peak = 0;

  constructor(link: LogLink, mostUnderWay = MOST_UNDER_WAY) {
    this.#port = link.port;
    this.#books = new Int32Array(link.books);
    this.#most = mostUnderWay;
  }

  get lost(): number {
    return linesLost(this.#books.buffer);
  }

  /** Bytes that have not been taken yet. */
  get underWay(): number {
    return (this.#sent - Atomics.load(this.#books, TAKEN)) | 0;
  }

  /** The most that was ever under way: how far the other end has fallen behind. */
  get peak(): number {
    return this.#peak;
  }

  append(log: LogName, lines: Uint8Array, count: number): void {
    const coming = this.underWay + lines.length;
    if (coming > this.#most) {
      Atomics.add(this.#books, LOST, count);
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

/** Everything that waits in a port, now. */
export function drainPort(port: MessagePort, take: (message: ToLogThread) => void): void {
  for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port))
    take(next.message as ToLogThread);
}
