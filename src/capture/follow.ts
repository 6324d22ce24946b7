import { closeSync, type Dirent, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import type { BatchSink, PacketSink } from '../packet/packet.ts';
import { FileSource } from './file.ts';
import { type ByteInput, fileError } from './input.ts';
import type { StoredSource } from './source.ts';

/** Files in the directory; with more it is no place for a sensor's captures. */
const MOST_FILES = 20_000;
/** A look at a directory costs at most this share of the time. */
const LOOK_SHARE = 10;
/** Names of files that are not what they will be: hidden ones, those of editors and of programs that copy. */
const UNFINISHED = /^\.|\.(tmp|temp|part|partial|crdownload|swp)$|~$/i;
const PACKED = /\.(gz|zst|zstd)$/i;

export interface FollowOptions {
  /** Milliseconds between two looks; 250 unless told. */
  pollMs?: number;
  /** Milliseconds without growth after which a file that has a successor is at its end; 1,000 unless told. */
  settleMs?: number;
  /** The same for a file that ends within a packet, of which the rest may still come; 10,000 unless told. */
  patienceMs?: number;
  /** A file has come to its end, with what was wrong with it. */
  onFile?: (path: string, problem: SluiceError | undefined) => void;
}

/** A file that was found in the directory. */
interface Found {
  path: string;
  name: string;
  /** Tells the file from others, whatever its name. */
  id: string;
  size: number;
  changed: number;
}

/** A file whose end has moved on when more is written. */
class GrowingInput implements ByteInput {
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
      const n = readSync(this.#fd, buffer, at, buffer.length - at, null);
      this.readBytes += n;
      return n > 0 ? n : this.finished ? -1 : 0;
    } catch (error) {
      throw fileError(this.#path, error);
    }
  }

  /** Bytes of it now, and whether it still has a name. */
  now(): { size: number; named: boolean } {
    const { size, nlink } = fstatSync(this.#fd);
    return { size, named: nlink > 0 };
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

interface Current {
  source: FileSource;
  input: GrowingInput;
  found: Found;
  /** Bytes at the last look, and when they had last become more. */
  size: number;
  grown: number;
}

const NATURAL = new Intl.Collator('en', { numeric: true });

/** The one that was written to last comes last; of the same time, by name, numbers by their value. */
function inOrder(a: Found, b: Found): number {
  return a.changed - b.changed || NATURAL.compare(a.name, b.name);
}

/**
 * The captures in a directory that is being filled, one after the other in the order in which they were last written to.
 * The latest is read as it grows, a packet when it is whole; it is at its end once there is another file after it and it has
 * not grown for a while, or once it is deleted. A file that is renamed stays the same; one that is written anew from its
 * beginning (rings of files) is read again. Compressed files are read when they do not grow any more. Ends only with
 * `close`, or when the directory cannot be read.
 */
export class FollowSource implements StoredSource {
  packets = 0;
  problem: SluiceError | undefined;
  /** Files that were read to their end, and those of them with a problem. */
  files = 0;
  damaged = 0;
  starved = true;
  readonly #dir: string;
  readonly #poll: number;
  readonly #settle: number;
  readonly #patience: number;
  readonly #onFile: (path: string, problem: SluiceError | undefined) => void;
  /** By id: files that were read, and their sizes then. */
  readonly #done = new Map<string, number>();
  /** By id: compressed files at the last look. */
  readonly #packed = new Map<string, { size: number; grown: number }>();
  #waiting: Found[] = [];
  #current: Current | undefined;
  #closedBytes = 0;
  #nextLook = 0;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #wake: (() => void) | undefined;

  /** Errors: FILE when the directory cannot be read. */
  constructor(dir: string, options: FollowOptions = {}) {
    this.#dir = dir;
    this.#poll = options.pollMs ?? 250;
    this.#settle = options.settleMs ?? 1000;
    this.#patience = options.patienceMs ?? 10_000;
    this.#onFile = options.onFile ?? (() => {});
    let directory = false;
    try {
      directory = statSync(dir).isDirectory();
    } catch (error) {
      throw fileError(dir, error);
    }
    if (!directory)
      throw new SluiceError('FILE', `${dir} is no directory`, {
        help: 'name the directory that captures are written to; a file is read without --follow',
      });
  }

  get name(): string {
    return this.#dir;
  }

  get readBytes(): number {
    return this.#closedBytes + (this.#current?.source.readBytes ?? 0);
  }

  drain(sink: PacketSink, maxPackets: number): boolean {
    return this.drainBatches((packets, count) => {
      for (let i = 0; i < count; i++) sink(packets[i]);
    }, maxPackets);
  }

  drainBatches(sink: BatchSink, maxPackets: number): boolean {
    for (let left = maxPackets; left > 0 && !this.#closed; ) {
      this.#current ??= this.#begin();
      const current = this.#current;
      if (current === undefined) break;
      const { source } = current;
      const before = source.packets;
      const more = source.drainBatches(sink, left);
      const count = source.packets - before;
      this.packets += count;
      left -= count;
      if (more && source.starved) break;
      if (!more) this.#end(current);
      this.starved = false;
      if (more) return true;
    }
    this.starved = true;
    return !this.#closed && this.problem === undefined;
  }

  /** Until a file has grown, ended or come. */
  async wait(): Promise<void> {
    while (!this.#closed && this.problem === undefined) {
      await this.#look();
      if (this.#closed || this.#hasMore()) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#timer = setTimeout(resolve, this.#poll);
      });
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#wake?.();
    this.#current?.source.close();
  }

  /** Whether there is something to do; decides whether the current file is at its end. */
  #hasMore(): boolean {
    const current = this.#current;
    if (current === undefined) return this.#waiting.length > 0;
    const { size, named } = current.input.now();
    const time = performance.now();
    if (size !== current.size) {
      current.size = size;
      current.grown = time;
      return true;
    }
    const partial = current.source.pendingBytes > 0;
    const quiet = time - current.grown;
    if (
      !named ||
      size < current.input.readBytes ||
      (this.#waiting.length > 0 && quiet >= (partial ? this.#patience : this.#settle))
    )
      current.input.finished = true;
    return current.input.finished;
  }

  /** Opens the next file. */
  #begin(): Current | undefined {
    for (;;) {
      const found = this.#waiting.shift();
      if (found === undefined) return undefined;
      this.#done.set(found.id, found.size);
      try {
        const input = new GrowingInput(found.path);
        input.finished = PACKED.test(found.name);
        const source = FileSource.over(found.path, input);
        return { source, input, found, size: -1, grown: performance.now() };
      } catch (error) {
        // Gone before its turn came: nothing of it was read.
        this.#tell(found.path, error instanceof SluiceError ? error : fileError(found.path, error));
      }
    }
  }

  #end({ source, found }: Current): void {
    this.#current = undefined;
    this.#closedBytes += source.readBytes;
    this.#done.set(found.id, source.readBytes);
    source.close();
    // A file that its writer has only made holds nothing yet, and nothing is wrong with it.
    if (source.readBytes > 0) this.#tell(found.path, source.problem);
  }

  #tell(path: string, problem: SluiceError | undefined): void {
    this.files++;
    if (problem !== undefined) this.damaged++;
    this.#onFile(path, problem);
  }

  /** Looks for files that have not been read. */
  async #look(): Promise<void> {
    const begin = performance.now();
    if (begin < this.#nextLook) return;
    let files: Found[];
    try {
      files = await this.#list();
    } catch (error) {
      this.problem = error instanceof SluiceError ? error : fileError(this.#dir, error);
      return;
    }
    const end = performance.now();
    this.#nextLook = end + Math.max(this.#poll / 2, (end - begin) * LOOK_SHARE);
    const ids = new Set(files.map(({ id }) => id));
    for (const id of this.#done.keys()) if (!ids.has(id)) this.#done.delete(id);
    for (const id of this.#packed.keys()) if (!ids.has(id)) this.#packed.delete(id);
    this.#waiting = files.filter((file) => this.#isNew(file) && this.#isReady(file, end)).sort(inOrder);
  }

  #isNew({ id, size }: Found): boolean {
    if (id === this.#current?.found.id) return false;
    const read = this.#done.get(id);
    if (read === undefined || read === 0) return read === undefined || size > 0;
    // A ring of files: smaller than what was read, it was begun anew.
    return size < read;
  }

  /** A compressed file can be read once it has not grown for a while. */
  #isReady({ name, id, size }: Found, now: number): boolean {
    if (!PACKED.test(name)) return size > 0 || this.#current === undefined;
    const known = this.#packed.get(id);
    if (known === undefined || known.size !== size) {
      this.#packed.set(id, { size, grown: now });
      return false;
    }
    return now - known.grown >= this.#settle;
  }

  async #list(): Promise<Found[]> {
    const entries: Dirent[] = await readdir(this.#dir, { withFileTypes: true });
    const names = entries
      .filter((entry) => (entry.isFile() || entry.isSymbolicLink()) && !UNFINISHED.test(entry.name))
      .map(({ name }) => name);
    if (names.length > MOST_FILES)
      throw new SluiceError('FILE', `${this.#dir} has ${names.length} files, more than ${MOST_FILES}`, {
        help: 'move old captures away',
      });
    const files: Found[] = [];
    for (const name of names) {
      const path = join(this.#dir, name);
      try {
        const file = await stat(path);
        if (!file.isFile()) continue;
        const { dev, ino, birthtimeMs, size, mtimeMs } = file;
        files.push({ path, name, id: `${dev}:${ino}:${birthtimeMs}`, size, changed: mtimeMs });
      } catch {
        // Gone between the two calls.
      }
    }
    return files;
  }
}
