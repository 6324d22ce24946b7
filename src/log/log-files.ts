import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { type Disk, systemDisk } from './disk.ts';
import { LogFile } from './log-file.ts';
import { LOG_NAMES, type LogName, type LogTarget, type LogTotals, type TornLine } from './target.ts';
import { type ZeekHeading, zeekClosing, zeekOpening } from './zeek-format.ts';

export interface LogFilesOptions {
  dir: string;
  /** Which logs these are, all unless told; conn.log is there from the beginning, the others with their first line. */
  logs?: readonly LogName[];
  /** Bytes after which a new file begins; 0: never. */
  rotateSize?: number;
  /** Seconds; 0: never. */
  rotateTime?: number;
  /** Begin with empty files; those of an earlier run are renamed. Else they are appended to. */
  keepAside?: boolean;
  /** Bytes of whole lines that wait while the disk does not take them; 64 MiB unless told. */
  queueBytes?: number;
  /** Seconds between two tries of a disk that failed. */
  retryAfter?: number;
  /** Columns of the logs that are in Zeek's TSV; the others are without heading. */
  zeek?: readonly ZeekHeading[];
  disk?: Disk;
  /** Seconds since the epoch. */
  now?: () => number;
}

const NEWLINE = 10;

function countLines(bytes: Uint8Array): number {
  let lines = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) lines++;
  return lines;
}

/** A file that somebody has moved away while it was written to; a new one is begun under its name. */
export interface MovedLog {
  path: string;
  /** Lines that went with it, as it was removed and not renamed. */
  lost: number;
}

interface Waiting {
  log: LogName;
  bytes: Uint8Array;
  lines: number;
}

/**
 * The log files of one directory, written synchronously. A disk that is full or failing costs no half line and no
 * exception: whole lines wait in a bounded queue, are tried again, and are counted when they are lost.
 */
export class LogFiles implements LogTarget {
  readonly dir: string;
  /** Torn lines that opening cut off. */
  readonly torn: readonly TornLine[];
  readonly #files = new Map<LogName, LogFile>();
  /** Lines in each file since it was last seen under its name. */
  readonly #unseen = new Map<LogFile, number>();
  readonly #queue: Waiting[] = [];
  readonly #limits: { size: number; time: number };
  readonly #queueBytes: number;
  readonly #retryAfter: number;
  readonly #now: () => number;
  #queued = 0;
  #waiting = 0;
  #nextTry = 0;
  #lines = 0;
  #bytes = 0;
  #lost = 0;
  #failures = 0;
  #problem: Error | undefined;

  /** @throws SluiceError FILE when the directory or a log cannot be made */
  constructor(options: LogFilesOptions) {
    this.dir = options.dir;
    this.#limits = { size: options.rotateSize ?? 0, time: options.rotateTime ?? 0 };
    this.#queueBytes = options.queueBytes ?? 64 * 2 ** 20;
    this.#retryAfter = options.retryAfter ?? 1;
    this.#now = options.now ?? (() => Date.now() / 1000);
    const disk = options.disk ?? systemDisk;
    const torn: TornLine[] = [];
    try {
      for (const name of options.logs ?? LOG_NAMES) {
        const heading = options.zeek?.find((each) => each.path === name);
        const file = new LogFile(
          join(options.dir, `${name}.log`),
          disk,
          heading && { opening: (now) => zeekOpening(heading, now), closing: zeekClosing },
        );
        this.#files.set(name, file);
        if (name !== 'conn' && !existsSync(file.path)) continue;
        const cut = file.open(this.#limits, this.#now(), options.keepAside ?? false);
        if (cut !== undefined) torn.push(cut);
      }
    } catch (cause) {
      for (const file of this.#files.values()) file.close();
      throw new SluiceError('FILE', `cannot write logs in ${options.dir}`, {
        cause,
        help: 'choose another directory with --log-dir, or make room and rights in this one',
      });
    }
    this.torn = torn;
  }

  get lost(): number {
    return this.#lost;
  }

  /** The error that the disk gives at present; undefined when all is written. */
  get problem(): Error | undefined {
    return this.#problem;
  }

  totals(): LogTotals {
    let rotations = 0;
    for (const file of this.#files.values()) rotations += file.rotations;
    return {
      lines: this.#lines,
      bytes: this.#bytes,
      lost: this.#lost,
      waiting: this.#waiting,
      failures: this.#failures,
      rotations,
    };
  }

  append(log: LogName, lines: Uint8Array, count: number): void {
    if (lines.length === 0) return;
    if (this.#queue.length > 0) this.#retry(false);
    // Lines of one log stay in order: nothing overtakes what waits.
    const rest = this.#queue.length > 0 ? lines : this.#put(log, lines, count);
    if (rest !== undefined) this.#wait(log, rest);
  }

  /** Tries what waits, whenever it was tried last; true when nothing waits any more. */
  flush(): boolean {
    this.#retry(true);
    return this.#queue.length === 0;
  }

  /**
   * Begins new files where the time has come although nothing is being written, or where somebody has moved one away (with
   * its directory, or as logrotate does): those are returned. Call it now and then.
   */
  tick(): MovedLog[] {
    const moved = [...this.#files.values()].flatMap((file) => (file.isOpen ? this.#look(file) : []));
    this.#retry(false);
    for (const file of this.#files.values()) if (file.isOpen) this.#rotate(file, 0);
    return moved;
  }

  #look(file: LogFile): MovedLog[] {
    const where = file.whereabouts();
    const unseen = this.#unseen.get(file) ?? 0;
    this.#unseen.set(file, 0);
    if (where === 'here') return [];
    const lost = where === 'removed' ? unseen : 0;
    this.#lines -= lost;
    this.#lost += lost;
    if (where === 'removed') file.close();
    else file.finish(this.#now());
    try {
      file.open(this.#limits, this.#now(), false);
    } catch (error) {
      // Lines wait; each try to write some tries to open it.
      this.#problem = error as Error;
      this.#failed();
    }
    return [{ path: file.path, lost }];
  }

  /** Writes what waits, counts what cannot be written as lost, and closes. */
  close(): LogTotals {
    this.#retry(true);
    for (const { lines } of this.#queue) this.#lost += lines;
    this.#queue.length = 0;
    this.#queued = 0;
    this.#waiting = 0;
    for (const file of this.#files.values()) file.finish(this.#now());
    return this.totals();
  }

  /** Writes; what is left over when the disk fails. */
  #put(log: LogName, bytes: Uint8Array, lines: number): Uint8Array | undefined {
    const file = this.#files.get(log);
    if (file === undefined) {
      this.#lost += lines;
      return undefined;
    }
    const { written, error } = this.#write(file, bytes);
    const rest = error === undefined ? undefined : bytes.subarray(written);
    const done = lines - (rest === undefined ? 0 : countLines(rest));
    this.#bytes += written;
    this.#lines += done;
    this.#unseen.set(file, (this.#unseen.get(file) ?? 0) + done);
    this.#problem = error;
    if (error !== undefined) this.#failed();
    return rest;
  }

  #write(file: LogFile, bytes: Uint8Array): { written: number; error: Error | undefined } {
    if (!file.isOpen) {
      try {
        file.open(this.#limits, this.#now(), false);
      } catch (error) {
        return { written: 0, error: error as Error };
      }
    }
    this.#rotate(file, bytes.length);
    return file.write(bytes);
  }

  #rotate(file: LogFile, coming: number): void {
    try {
      file.rotateIfDue(this.#limits, this.#now(), coming);
    } catch (error) {
      // The old file goes on being written to.
      this.#problem = error as Error;
      this.#failures++;
    }
  }

  #failed(): void {
    this.#failures++;
    this.#nextTry = this.#now() + this.#retryAfter;
  }

  /** Copies as many whole lines as there is room for; the rest is lost. */
  #wait(log: LogName, bytes: Uint8Array): void {
    const room = this.#queueBytes - this.#queued;
    const kept =
      bytes.length <= room ? bytes.length : room <= 0 ? 0 : bytes.subarray(0, room).lastIndexOf(NEWLINE) + 1;
    this.#lost += countLines(bytes.subarray(kept));
    if (kept === 0) return;
    const copy = bytes.slice(0, kept);
    const lines = countLines(copy);
    this.#queue.push({ log, bytes: copy, lines });
    this.#queued += kept;
    this.#waiting += lines;
  }

  #retry(now: boolean): void {
    if (this.#queue.length === 0 || (!now && this.#now() < this.#nextTry)) return;
    let done = 0;
    for (const entry of this.#queue) {
      const before = { bytes: entry.bytes.length, lines: entry.lines };
      const rest = this.#put(entry.log, entry.bytes, entry.lines);
      const lines = rest === undefined ? 0 : countLines(rest);
      this.#queued -= before.bytes - (rest?.length ?? 0);
      this.#waiting -= before.lines - lines;
      if (rest !== undefined) {
        entry.bytes = rest;
        entry.lines = lines;
        break;
      }
      done++;
    }
    this.#queue.splice(0, done);
  }
}
