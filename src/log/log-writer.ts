import type { LogName, LogTarget } from './target.ts';

/** Lines are handed on in pieces of at most this many bytes, unless a single line is longer. */
export const CHUNK_BYTES = 65_536;

interface Pending {
  buffer: Buffer;
  used: number;
  lines: number;
}

/**
 * Collects lines and hands them on in pieces. The owner flushes at the end of each turn, or each second, so that a
 * line waits no longer than that.
 */
export class LogWriter {
  readonly #target: LogTarget;
  readonly #pending = new Map<LogName, Pending>();
  #lines = 0;

  constructor(target: LogTarget) {
    this.#target = target;
  }

  /** Lines written so far, whatever became of them. */
  get lines(): number {
    return this.#lines;
  }

  get lost(): number {
    return this.#target.lost;
  }

  /** One record, without a newline at its end and without one in it. */
  write(log: LogName, line: string): void {
    this.#lines++;
    let pending = this.#pending.get(log);
    if (pending === undefined) {
      pending = { buffer: Buffer.allocUnsafeSlow(CHUNK_BYTES), used: 0, lines: 0 };
      this.#pending.set(log, pending);
    }
    // UTF-8 takes at most three bytes for each UTF-16 unit.
    let most = line.length * 3 + 1;
    if (pending.used + most > CHUNK_BYTES) {
      most = Buffer.byteLength(line) + 1;
      if (pending.used + most > CHUNK_BYTES) this.#hand(log, pending);
    }
    if (most > CHUNK_BYTES) {
      this.#target.append(log, Buffer.from(`${line}\n`), 1);
      return;
    }
    pending.used += pending.buffer.write(line, pending.used);
    pending.buffer[pending.used++] = 10;
    pending.lines++;
  }

  flush(): void {
    for (const [log, pending] of this.#pending) this.#hand(log, pending);
  }

  #hand(log: LogName, pending: Pending): void {
    if (pending.used === 0) return;
    const { used, lines } = pending;
    pending.used = 0;
    pending.lines = 0;
    this.#target.append(log, pending.buffer.subarray(0, used), lines);
  }
}
