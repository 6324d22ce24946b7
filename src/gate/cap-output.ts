import { closeSync, constants, fstatSync, openSync, unlinkSync, write } from 'node:fs';
import { parse } from 'node:path';
import { SluiceError } from '../base/errors.ts';

export interface OutputOptions {
  /** A file, or - for stdout. */
  path: string;
  /** A new file when one would become larger than this. */
  rotateBytes?: number;
  /** A new file after so many seconds. */
  rotateSeconds?: number;
  /** Of several files the latest are kept; default: all. */
  files?: number;
  /** What each file begins with. */
  header: Uint8Array;
  /** What each file ends with, when it does. */
  trailer: () => Uint8Array;
}

/** Bytes that are written at once. */
const PIECE = 1 << 20;
/** Bytes that wait to be written, at most. */
const WAITING = 32 << 20;
const STDOUT = 1;
/** A pipe that takes nothing is asked again after this. */
const RETRY_MS = 2;
/** How long a reader that takes nothing is waited for at the end. */
const PATIENCE_MS = 5000;

interface Piece {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  used: number;
  /** Begins a file. */
  first: boolean;
}

/** `trace.pcapng` → `trace-00001.pcapng`. */
export function numberedName(path: string, number: number): string {
  const { dir, name, ext } = parse(path);
  return `${path.slice(0, dir === '' ? 0 : path.length - name.length - ext.length)}${name}-${String(number).padStart(5, '0')}${ext}`;
}

/**
 * Writes blocks to a file, to numbered files in turn, or to stdout, without ever making the caller wait: what finds no room in
 * memory is refused. Whole blocks only: a file may end early, never within a block, unless the disk is full.
 */
export class CaptureOutput {
  /** Of the piece that `reserve` has made room in. */
  bytes: Uint8Array;
  view: DataView;
  /** Why not everything could be written. */
  failure: SluiceError | undefined;
  /** Names of the files that are there. */
  readonly names: string[] = [];
  /** Resolves when writing has failed, or (undefined) nobody reads any more. */
  readonly ended: Promise<SluiceError | undefined>;
  readonly #options: OutputOptions;
  readonly #free: Piece[] = [];
  #queue: Piece[] = [];
  #piece: Piece;
  #waiting = 0;
  #fileBytes = 0;
  #fileSince = performance.now();
  #number = 0;
  #fd = -1;
  #writing: Promise<void> | undefined;
  #over = false;
  #deadline = Number.POSITIVE_INFINITY;
  #end: (error: SluiceError | undefined) => void = () => {};

  /** Opens the first file. @throws SluiceError FILE */
  constructor(options: OutputOptions) {
    this.#options = options;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    this.#fd = options.path === '-' ? openStdout() : this.#openNext();
    this.#piece = this.#begin();
    ({ bytes: this.bytes, view: this.view } = this.#piece);
    this.#append(options.header);
  }

  get #rotates(): boolean {
    return this.#options.rotateBytes !== undefined || this.#options.rotateSeconds !== undefined;
  }

  /** Where in `bytes` a block of so many bytes is to be written; -1 when there is no room. */
  reserve(size: number): number {
    if (this.#over) return -1;
    const { rotateBytes = Number.POSITIVE_INFINITY } = this.#options;
    const { header } = this.#options;
    if (this.#fileBytes + size > rotateBytes && this.#fileBytes > header.length) this.rotate();
    if (this.#piece.used + size > PIECE) {
      if (this.#waiting + PIECE > WAITING) return -1;
      this.#next(false);
    }
    const at = this.#piece.used;
    this.#piece.used += size;
    this.#fileBytes += size;
    return at;
  }

  /** Ends the file after its time; to be called from time to time. */
  tick(): void {
    const { rotateSeconds, header } = this.#options;
    const due = (performance.now() - this.#fileSince) / 1000 >= (rotateSeconds ?? Number.POSITIVE_INFINITY);
    if (due && this.#fileBytes > header.length) this.rotate();
  }

  /** Goes on in a new file. */
  rotate(): void {
    this.#append(this.#options.trailer());
    this.#next(true);
    this.#fileBytes = 0;
    this.#fileSince = performance.now();
    this.#append(this.#options.header);
    this.flush();
  }

  /** Begins to write what is there, unless writing is going on: then it follows by itself. */
  flush(): void {
    if (this.#writing !== undefined || this.#over) return;
    if (this.#piece.used > 0 && this.#queue.length === 0) this.#next(false);
    if (this.#queue.length === 0) return;
    this.#writing = this.#writeAll().finally(() => (this.#writing = undefined));
  }

  /** Writes what is left, and the end of the file. A reader of stdout that takes nothing for some seconds is given up. */
  async close(): Promise<void> {
    this.#append(this.#options.trailer());
    this.#deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      if (this.#piece.used > 0) this.#next(false);
      this.flush();
      if (this.#writing === undefined) break;
      await this.#writing;
    }
    if (this.#fd > STDOUT) closeSync(this.#fd);
    this.#fd = -1;
    this.#over = true;
  }

  #append(block: Uint8Array): void {
    if (this.#piece.used + block.length > PIECE) this.#next(false);
    this.bytes.set(block, this.#piece.used);
    this.#piece.used += block.length;
    this.#fileBytes += block.length;
  }

  #begin(first = false): Piece {
    const piece = this.#free.pop();
    if (piece !== undefined) return Object.assign(piece, { used: 0, first });
    const bytes = new Uint8Array(PIECE);
    return { bytes, view: new DataView(bytes.buffer), used: 0, first };
  }

  #next(first: boolean): void {
    this.#queue.push(this.#piece);
    this.#waiting += PIECE;
    this.#piece = this.#begin(first);
    ({ bytes: this.bytes, view: this.view } = this.#piece);
  }

  async #writeAll(): Promise<void> {
    for (let piece = this.#take(); piece !== undefined && !this.#over; piece = this.#take()) {
      try {
        if (piece.first) {
          closeSync(this.#fd);
          this.#fd = this.#openNext();
        }
        await this.#writePiece(piece);
      } catch (error) {
        this.#fail(error);
      }
      this.#waiting -= PIECE;
      this.#free.push(piece);
    }
  }

  /** What came while the last piece was written goes next, full or not. */
  #take(): Piece | undefined {
    if (this.#queue.length === 0 && this.#piece.used > 0) this.#next(false);
    return this.#queue.shift();
  }

  async #writePiece({ bytes, used }: Piece): Promise<void> {
    for (let done = 0; done < used; ) {
      try {
        done += await new Promise<number>((resolve, reject) =>
          write(this.#fd, bytes, done, used - done, null, (error, n) =>
            error === null ? resolve(n) : reject(error),
          ),
        );
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error;
        if (performance.now() > this.#deadline) {
          throw new SluiceError('FILE', 'the reader of stdout takes nothing', {
            help: 'what it has not read is lost; see whether it hangs',
          });
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  #fail(error: unknown): void {
    this.#over = true;
    // A reader that has seen enough is no failure.
    const gone = error instanceof Error && 'code' in error && error.code === 'EPIPE';
    if (!gone) this.failure = error instanceof SluiceError ? error : cannotWrite(this.#options.path, error);
    this.#end(this.failure);
  }

  #openNext(): number {
    const { path, files = Number.POSITIVE_INFINITY } = this.#options;
    this.#number++;
    const name = this.#rotates ? numberedName(path, this.#number) : path;
    let fd: number;
    try {
      fd = openSync(name, 'w', 0o640);
    } catch (error) {
      throw cannotWrite(name, error);
    }
    this.names.push(name);
    while (this.names.length > files) {
      const [oldest] = this.names.splice(0, 1);
      try {
        unlinkSync(oldest);
      } catch {
        // Somebody has taken it away.
      }
    }
    return fd;
  }
}

/** A pipe is opened once more, so that waiting for its reader does not hold up anything else. */
function openStdout(): number {
  if (!fstatSync(STDOUT).isFIFO()) return STDOUT;
  try {
    return openSync('/proc/self/fd/1', constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return STDOUT;
  }
}

function cannotWrite(path: string, cause: unknown): SluiceError {
  return new SluiceError('FILE', `${path === '-' ? 'stdout' : path} cannot be written`, {
    cause,
    help: 'see whether the directory is there, and the disk has room',
  });
}
