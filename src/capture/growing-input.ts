import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type ByteInput, captureError } from './input.ts';

/** First bytes of a file, by which one that was begun anew is known: the header and the time of the first packet. */
const MARK_BYTES = 64;

/** A file whose end moves on when more is written. */
export class GrowingInput implements ByteInput {
  readBytes = 0;
  /** Nothing more will be written. */
  finished = false;
  readonly #fd: number;
  readonly #path: string;
  #closed = false;

  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, 'r');
  }

  read(buffer: Uint8Array, at: number): number {
    if (this.#closed) return -1;
    try {
      const n = readSync(this.#fd, buffer, at, buffer.length - at, this.readBytes);
      this.readBytes += n;
      return n > 0 ? n : this.finished ? -1 : 0;
    } catch (error) {
      throw captureError(this.#path, error);
    }
  }

  /** Its state now; `named`: it has not been deleted. */
  now(): { size: number; changed: number; named: boolean } {
    const { size, mtimeMs, nlink } = fstatSync(this.#fd);
    return { size, changed: mtimeMs, named: nlink > 0 };
  }

  /** Its first bytes, as far as they are there. */
  mark(): Buffer {
    const mark = Buffer.alloc(MARK_BYTES);
    return mark.subarray(0, readSync(this.#fd, mark, 0, MARK_BYTES, 0));
  }

  wait(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#fd);
  }
}
