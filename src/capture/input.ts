import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { Socket } from 'node:net';
import type { SluiceError } from '../base/errors.ts';
import { fileError } from '../base/file-error.ts';
import { StreamInput } from './stream-input.ts';

const STDIN = 0;

/** Bytes of a file or a stream, pulled by whoever reads them. */
export interface ByteInput {
  /** Bytes taken from the file so far; of compressed input the compressed ones. */
  readonly readBytes: number;
  /**
   * Copies what is there into buffer[at…]: how many bytes; 0 when none are there yet (`wait` for them), -1 at the end.
   * Errors: FILE when reading fails; FILE_FORMAT when what is read is damaged.
   */
  read(buffer: Uint8Array, at: number): number;
  /** Resolves when `read` has something to say. Never rejects. */
  wait(): Promise<void>;
  close(): void;
}

/** A file that has been opened, or standard input. */
export interface OpenedFile {
  name: string;
  fd: number;
  /** Bytes, of a regular file. */
  size: number | undefined;
  /** A pipe or a socket: reading may have to wait. */
  stream: boolean;
}

/** Opens a file, or standard input as `-`. Errors: FILE. */
export function openFile(path: string): OpenedFile {
  const name = path === '-' ? 'standard input' : path;
  let fd = STDIN;
  try {
    if (path !== '-') fd = openSync(path, 'r');
    const stat = fstatSync(fd);
    if (stat.isDirectory()) throw Object.assign(new Error('a directory'), { code: 'EISDIR' });
    return {
      name,
      fd,
      size: stat.isFile() ? stat.size : undefined,
      stream: stat.isFIFO() || stat.isSocket(),
    };
  } catch (error) {
    if (fd !== STDIN) closeSync(fd);
    throw captureError(name, error);
  }
}

export function inputOf(file: OpenedFile): ByteInput {
  const { name, fd } = file;
  if (!file.stream) return new DiskInput(file);
  const socket = new Socket({ fd, readable: true, writable: false });
  return new StreamInput(socket, (error) => captureError(name, error));
}

/** A file on a disk: reads at once. */
class DiskInput implements ByteInput {
  readBytes = 0;
  readonly #file: OpenedFile;
  #closed = false;

  constructor(file: OpenedFile) {
    this.#file = file;
  }

  read(buffer: Uint8Array, at: number): number {
    const { fd, name } = this.#file;
    for (;;) {
      try {
        const n = readSync(fd, buffer, at, buffer.length - at, null);
        this.readBytes += n;
        return n === 0 ? -1 : n;
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code;
        if (code === 'EOF') return -1;
        if (code !== 'EINTR') throw captureError(name, error);
      }
    }
  }

  wait(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#file.fd !== STDIN) closeSync(this.#file.fd);
  }
}

/** What an error of a capture file means. */
export function captureError(name: string, error: unknown): SluiceError {
  return fileError(name, error, {
    missing: name.startsWith('udp:')
      ? `sluice run '${name}' receives a mirror; sluice read --encap reads the recording of one`
      : 'check the path; - reads standard input',
    directory: 'name the capture files in it, or read what comes into it: sluice read --follow DIR',
  });
}
