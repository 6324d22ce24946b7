import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';

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

/** audit.log, and others of its kind: JSON lines, each written whole. A disk that takes none does not stop the gate; it is told once. */
export class AuditLog {
  readonly path: string;
  readonly #problem: (text: string) => void;
  #fd: number;
  #size: number;
  #failing = false;

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
      if (this.#size > MAX_BYTES) this.#rotate();
      const written = writeSync(this.#fd, text);
      this.#size += written;
      // A disk that is full may take a part: end the line, so that the next one is whole.
      if (written < text.length) writeSync(this.#fd, '\n');
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) this.#problem(`${this.path} cannot be written: ${(error as Error).message}`);
      this.#failing = true;
    }
  }

  #rotate(): void {
    renameSync(this.path, `${this.path}.1`);
    closeSync(this.#fd);
    this.#fd = openSync(this.path, 'a', 0o640);
    this.#size = 0;
  }

  close(): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }
}
