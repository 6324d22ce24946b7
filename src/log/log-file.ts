import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Disk, tornBytes, type Whereabouts } from './disk.ts';
import type { TornLine } from './target.ts';

const NEWLINE = 10;

/** What stands around the records of a file; seconds since the epoch. */
export interface FileFrame {
  opening: (seconds: number) => string;
  closing: (seconds: number) => string;
}

export interface RotationLimits {
  /** Bytes; 0: never. */
  size: number;
  /** Seconds; files begin at multiples of it since the epoch; 0: never. */
  time: number;
}

/** The name that a finished file gets, in UTC: conn.log becomes conn.2026-11-21-10-45-00.log, as Zeek names its own. */
export function rotatedName(
  path: string,
  seconds: number,
  taken: (path: string) => boolean = existsSync,
): string {
  const stem = path.endsWith('.log') ? path.slice(0, -4) : path;
  const stamp = new Date(seconds * 1000).toISOString().slice(0, 19).replace(/[T:]/g, '-');
  for (let n = 0; ; n++) {
    const name = `${stem}.${stamp}${n === 0 ? '' : `-${n}`}.log`;
    if (!taken(name)) return name;
  }
}

/** One log file. Whatever fails throws the system's error and leaves whole lines behind. */
export class LogFile {
  readonly path: string;
  readonly #disk: Disk;
  readonly #frame: FileFrame | undefined;
  #fd = -1;
  #regular = false;
  /** Bytes of whole lines. */
  #size = 0;
  /** Bytes before the first record. */
  #heading = 0;
  /** Bytes of a line at the end of the file that a failed write has begun. */
  #excess = 0;
  #period = 0;
  rotations = 0;

  constructor(path: string, disk: Disk, frame?: FileFrame) {
    this.path = path;
    this.#disk = disk;
    this.#frame = frame;
  }

  get isOpen(): boolean {
    return this.#fd >= 0;
  }

  /** Whether somebody has moved the open file away; one that cannot be asked about is taken to be here. */
  whereabouts(): Whereabouts {
    try {
      return this.#disk.whereabouts(this.#fd, this.path);
    } catch {
      return 'here';
    }
  }

  /**
   * Opens for appending and cuts off a torn last line, which is what a killed process leaves.
   * @param keepAside the file of an earlier run is renamed, so that this one begins empty
   */
  open(limits: RotationLimits, now: number, keepAside: boolean): TornLine | undefined {
    this.#disk.mkdir(dirname(this.path));
    const fd = this.#disk.open(this.path);
    this.#fd = fd;
    let torn: TornLine | undefined;
    try {
      const { size, mtime, regular } = this.#disk.stat(fd);
      this.#regular = regular;
      this.#size = regular ? size : 0;
      this.#excess = 0;
      const cut = regular ? tornBytes(this.#disk, fd, size) : 0;
      if (cut > 0) {
        this.#disk.truncate(fd, size - cut);
        this.#size = size - cut;
        torn = { path: this.path, bytes: cut };
      }
      this.#period = limits.time > 0 ? Math.floor((this.#size > 0 ? mtime : now) / limits.time) : 0;
      // A file with a frame has one heading, which is that of one run.
      if ((keepAside || this.#frame !== undefined) && this.#size > 0) this.#begin(now, false);
      else this.#open(now);
    } catch (error) {
      this.close();
      throw error;
    }
    return torn;
  }

  /** Begins a new file when this one has had its time, or would outgrow its size. */
  rotateIfDue(limits: RotationLimits, now: number, coming: number): void {
    if (!this.#regular) return;
    const period = limits.time > 0 ? Math.floor(now / limits.time) : this.#period;
    const due = period !== this.#period || (limits.size > 0 && this.#size + coming > limits.size);
    this.#period = period;
    if (due && this.#size > this.#heading) {
      this.#begin(now, true);
      this.rotations++;
    }
  }

  /**
   * Opens the new file before it lets go of the old one, so that a failure leaves a log to write to.
   * @param ours this run has written the old one
   */
  #begin(now: number, ours: boolean): void {
    this.#mend();
    const aside = rotatedName(this.path, now);
    this.#disk.rename(this.path, aside);
    let fd: number;
    try {
      fd = this.#disk.open(this.path);
    } catch (error) {
      this.#disk.rename(aside, this.path);
      throw error;
    }
    if (ours) this.#end(now);
    this.#disk.close(this.#fd);
    this.#fd = fd;
    this.#size = 0;
    this.#excess = 0;
    this.#open(now);
  }

  /** Writes the heading of a new file, or throws and leaves nothing of it. */
  #open(now: number): void {
    if (this.#frame === undefined) return;
    const { error } = this.write(Buffer.from(this.#frame.opening(now)));
    this.#heading = this.#size;
    if (error === undefined) return;
    if (this.#regular) this.#disk.truncate(this.#fd, 0);
    throw error;
  }

  #end(now: number): void {
    if (this.#frame !== undefined) this.write(Buffer.from(this.#frame.closing(now)));
  }

  /** Cuts off what a failed write left of a line; measured from the end, as somebody may have shortened the file since. */
  #mend(): void {
    if (this.#excess === 0) return;
    if (this.#regular) {
      this.#disk.truncate(this.#fd, Math.max(0, this.#disk.stat(this.#fd).size - this.#excess));
    }
    this.#excess = 0;
  }

  /**
   * Writes whole lines. The file never keeps half a line that this process knows of: when the system takes only a
   * part, the file is cut back to the last whole line.
   * @returns bytes that are in the file for good, a whole number of lines; `error` when it is not all of them
   */
  write(bytes: Uint8Array): { written: number; error: Error | undefined } {
    let done = 0;
    try {
      this.#mend();
      while (done < bytes.length) {
        const n = this.#disk.write(this.#fd, bytes, done);
        if (n <= 0) throw new Error('the system wrote nothing');
        done += n;
      }
    } catch (thrown) {
      const whole = done === 0 ? 0 : bytes.subarray(0, done).lastIndexOf(NEWLINE) + 1;
      this.#size += whole;
      this.#excess += done - whole;
      try {
        this.#mend();
      } catch {
        // The excess stays noted: the next write begins with it.
      }
      return { written: whole, error: thrown as Error };
    }
    this.#size += done;
    return { written: done, error: undefined };
  }

  /** Ends the file as this run leaves it. */
  finish(now: number): void {
    if (this.#fd >= 0) this.#end(now);
    this.close();
  }

  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#disk.close(fd);
  }
}
