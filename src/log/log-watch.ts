import { drainPort, type LogLink, linesLost, noteTaken, type ToLogThread } from './log-link.ts';
import type { LogName } from './target.ts';

/** Told of whole lines of one log; the memory is its own. */
export type LineListener = (log: LogName, lines: Uint8Array, count: number) => void;

/** Lines on their way out of the log thread, for whoever looks on. What is not taken in time is left out, and counted. */
export class LogWatch {
  readonly #link: LogLink;
  readonly #seen: LineListener;

  constructor(link: LogLink, seen: LineListener) {
    this.#link = link;
    this.#seen = seen;
    link.port.on('message', (message: ToLogThread) => this.#take(message));
    link.port.unref();
  }

  /** Lines that were left out so far. */
  get skipped(): number {
    return linesLost(this.#link.books);
  }

  #take(message: ToLogThread): void {
    if (message.kind !== 'lines') return;
    noteTaken(this.#link, message.bytes.length);
    this.#seen(message.log, message.bytes, message.count);
  }

  /** Hands out what has come, and ends. */
  close(): void {
    drainPort(this.#link.port, (message) => this.#take(message));
    this.#link.port.close();
  }
}
