import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { systemText } from '../base/file-error.ts';

/** An audit log of this size is kept aside once, and a new one begun. */
const MAX_BYTES = 64 * 2 ** 20;

/** One line of audit.log: who changed what in the gate, and why. */
export interface AuditLine {
  op: string;
  /** Name of the owner; absent: by hand. */
  owner?: string | undefined;
  /** Who asked, as the kernel says; absent: the daemon itself. */
  uid?: number | undefined;
  pid?: number | undefined;
  /** The flow, as it is written on the command line. */
  key?: string | undefined;
  trigger?: string | undefined;
  why?: string | undefined;
  /** Code of the error when it was refused. */
  refused?: string | undefined;
  /** Of an end: its cause, and what was dropped. */
  reason?: string | undefined;
  pkts?: number | undefined;
  ipBytes?: number | undefined;
}

/**
 * audit.log, and others of its kind: JSON lines, each written whole. A disk that takes none does not stop the gate: it is told
 * when it begins, and when it is over with the number of lines that it has cost.
 */
export class AuditLog {
  readonly path: string;
  readonly #problem: (text: string) => void;
  #fd: number;
  #size: number;
  #lost = 0;

  /** @throws NodeJS.ErrnoException when the file cannot be made */
  constructor(directory: string, problem: (text: string) => void, name = 'audit.log') {
    this.path = join(directory, name);
    this.#problem = problem;
    this.#fd = openSync(this.path, 'a', 0o640);
    this.#size = fstatSync(this.#fd).size;
  }

  write(line: AuditLine): void {
    this.writeLine(line);
  }

  /** A line with other fields. */
  writeLine(line: object): void {
    const text = Buffer.from(`${JSON.stringify({ ts: Date.now() / 1000, ...line })}\n`);
    try {
      if (!this.#isInPlace()) this.#reopen();
      else if (this.#size > MAX_BYTES) this.#rotate();
      const written = writeSync(this.#fd, text);
      if (written < text.length) {
        // A disk that is full may take a part: what is in the file stays whole lines.
        ftruncateSync(this.#fd, Math.max(0, fstatSync(this.#fd).size - written));
        throw new Error('no space left for a whole line');
      }
      this.#size += written;
      if (this.#lost > 0) this.#problem(`${this.path} is written again; ${this.#lost} lines were lost`);
      this.#lost = 0;
    } catch (error) {
      if (this.#lost === 0) this.#problem(`${this.path} cannot be written: ${systemText(error)}`);
      this.#lost++;
    }
  }

  /** Nobody has removed or renamed it. */
  #isInPlace(): boolean {
    const there = statSync(this.path, { throwIfNoEntry: false });
    const held = fstatSync(this.#fd);
    return there?.ino === held.ino && there.dev === held.dev;
  }

  #rotate(): void {
    renameSync(this.path, `${this.path}.1`);
    this.#reopen();
  }

  #reopen(): void {
    mkdirSync(dirname(this.path), { recursive: true });
    const fresh = openSync(this.path, 'a', 0o640);
    closeSync(this.#fd);
    this.#fd = fresh;
    this.#size = fstatSync(fresh).size;
  }

  close(): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }
}
