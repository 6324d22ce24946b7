import { type JsonTimes, jsonWriter, type LineWriter } from './json-format.ts';
import { LineBuffer } from './line-buffer.ts';
import type { LogSchema } from './schema.ts';
import type { LogName, LogTarget } from './target.ts';
import { zeekWriter } from './zeek-format.ts';

/** Lines are handed on in pieces of at most this many bytes, unless a single line is longer. */
export const CHUNK_BYTES = 65_536;
/** A line that is begun has this much room at once. */
export const USUAL_LINE = 2048;
/** A buffer that a long line has made larger than this is not kept. */
const MOST_KEPT = 4 * CHUNK_BYTES;
const NEWLINE = 10;

/** How records are written; `times` is for JSON. */
export interface LineFormat {
  format: 'json' | 'zeek';
  times?: JsonTimes;
}

interface Pending {
  out: LineBuffer;
  lines: number;
}

/**
 * Collects lines and hands them on in pieces. The owner flushes at the end of each turn, or each second, so that a
 * line waits no longer than that.
 */
export class LogWriter {
  readonly #target: LogTarget;
  readonly #format: LineFormat;
  readonly #pending = new Map<LogName, Pending>();
  #lines = 0;

  constructor(target: LogTarget, format: LineFormat = { format: 'json' }) {
    this.#target = target;
    this.#format = format;
  }

  /** Lines written so far, whatever became of them. */
  get lines(): number {
    return this.#lines;
  }

  get lost(): number {
    return this.#target.lost;
  }

  /** The way to write records of a log; made once, called for each record. */
  channel<R>(schema: LogSchema<R>): (record: R) => void {
    const { log } = schema;
    const line: LineWriter<R> =
      this.#format.format === 'zeek' ? zeekWriter(schema) : jsonWriter(schema, this.#format.times);
    const pending = this.#of(log);
    return (record) => {
      const { out } = pending;
      const begin = out.at;
      out.room(USUAL_LINE);
      line(record, out);
      this.#done(log, pending, begin);
    };
  }

  /**
   * The way for lines that are made in place: `make` writes one with its newline to bytes[at…], where USUAL_LINE bytes
   * are free, and says how many it wrote; 0: none, and what is returned then says false.
   */
  inPlace(
    log: LogName,
    make: (key: number, bytes: Uint8Array, at: number) => number,
  ): (key: number) => boolean {
    const pending = this.#of(log);
    return (key) => {
      const { out } = pending;
      const begin = out.at;
      out.room(USUAL_LINE);
      out.at = begin + make(key, out.bytes, begin);
      if (out.at === begin) return false;
      this.#counted(log, pending, begin);
      return true;
    };
  }

  /** One line that is ready, without a newline at its end and without one in it. */
  write(log: LogName, line: string): void {
    const pending = this.#of(log);
    const begin = pending.out.at;
    pending.out.text(line);
    this.#done(log, pending, begin);
  }

  flush(): void {
    for (const [log, pending] of this.#pending) this.#hand(log, pending, pending.out.at);
  }

  #of(log: LogName): Pending {
    let pending = this.#pending.get(log);
    if (pending === undefined) {
      pending = { out: new LineBuffer(CHUNK_BYTES + USUAL_LINE), lines: 0 };
      this.#pending.set(log, pending);
    }
    return pending;
  }

  /** A line has been written from `begin` on: ends it, and hands on what is full. */
  #done(log: LogName, pending: Pending, begin: number): void {
    pending.out.byte(NEWLINE);
    this.#counted(log, pending, begin);
  }

  #counted(log: LogName, pending: Pending, begin: number): void {
    const { out } = pending;
    this.#lines++;
    if (out.at > CHUNK_BYTES && begin > 0) {
      this.#hand(log, pending, begin);
    }
    pending.lines++;
    if (out.at > CHUNK_BYTES) this.#hand(log, pending, out.at);
  }

  /** Hands on whole lines up to `end`, and moves what is behind them to the front. */
  #hand(log: LogName, pending: Pending, end: number): void {
    if (end === 0) return;
    const { out, lines } = pending;
    this.#target.append(log, out.bytes.subarray(0, end), lines);
    out.bytes.copyWithin(0, end, out.at);
    out.at -= end;
    pending.lines = 0;
    if (out.bytes.length > MOST_KEPT && out.at === 0) pending.out = new LineBuffer(CHUNK_BYTES + USUAL_LINE);
  }
}
