import { type Dirent, statSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import type { BatchSink, PacketSink } from '../packet/packet.ts';
import { FileSource } from './file.ts';
import { GrowingInput } from './growing-input.ts';
import { captureError } from './input.ts';
import type { StoredSource } from './source.ts';

/** Files in the directory; with more it is no place for a sensor's captures. */
const MOST_FILES = 20_000;
/** Files that may grow on, kept open while another one is read. */
const MOST_OPEN = 64;
/** A look at a directory costs at most this share of the time. */
const LOOK_SHARE = 10;
/** Names of files that are not what they will be: hidden ones, those of editors and of programs that copy. */
const UNFINISHED = /^\.|\.(tmp|temp|part|partial|crdownload|swp)$|~$/i;
const PACKED = /\.(gz|zst|zstd)$/i;
/** How many times as long a compressed file has to be quiet, for it is read in one go. */
const PACKED_QUIET = 5;

export interface FollowOptions {
  /** Milliseconds between two looks; 100 unless told. */
  pollMs?: number;
  /** Milliseconds without growth after which the next file is read; 200 unless told. */
  settleMs?: number;
  /** Milliseconds without growth after which a file that has a successor is closed; 10,000 unless told. */
  patienceMs?: number;
  /** Another file is read now, or this one was found to be damaged. */
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

/** What is read of a file, or may be read on. */
interface Open {
  source: FileSource;
  input: GrowingInput;
  /** Bytes at the last look, and when they had last become more. */
  size: number;
  grown: number;
}

/** A file that was begun. */
interface Entry {
  id: string;
  path: string;
  open: Open | undefined;
  /** Time of the last change that was looked at; the first bytes then; bytes read. */
  changed: number;
  mark: Buffer;
  read: number;
  told: boolean;
}

const NATURAL = new Intl.Collator('en', { numeric: true });

/** The one that was written to last comes last; of the same time, by name, numbers by their value. */
function inOrder(a: Found, b: Found): number {
  return a.changed - b.changed || NATURAL.compare(a.name, b.name);
}

/** Whether the first bytes are others than before; more of them are not. */
function isOther(before: Buffer, now: Buffer): boolean {
  return now.length < before.length || !now.subarray(0, before.length).equals(before);
}

/**
 * The captures in a directory that is being filled, one after the other in the order in which they were last written to.
 * A file is read as it grows, a packet when it is whole. When it has not grown for a while and another one has something,
 * that is read; the first goes on when it grows again, until it has been quiet for long or is deleted. A file that is renamed
 * stays the same; one that is written anew from its beginning (rings of files) is read again. Compressed files are read when
 * they do not grow any more. Ends only with `close`, or when the directory cannot be read.
 */
export class FollowSource implements StoredSource {
  packets = 0;
  problem: SluiceError | undefined;
  /** Files of which something was read, and those of them with a problem. */
  files = 0;
  damaged = 0;
  starved = true;
  readonly #dir: string;
  readonly #poll: number;
  readonly #settle: number;
  readonly #patience: number;
  readonly #onFile: (path: string, problem: SluiceError | undefined) => void;
  /** By id: files that were begun. */
  readonly #entries = new Map<string, Entry>();
  /** By id: compressed files at the last look. */
  readonly #packed = new Map<string, { size: number; grown: number }>();
  /** What there is to read, the first to be read first. */
  #waiting: Found[] = [];
  /** Files that were left and that nothing more is expected of: what is there of them is read first. */
  #last: Entry[] = [];
  #current: Entry | undefined;
  #closedBytes = 0;
  #nextLook = 0;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #wake: (() => void) | undefined;

  /** Errors: FILE when the directory cannot be read. */
  constructor(dir: string, options: FollowOptions = {}) {
    this.#dir = dir;
    this.#poll = options.pollMs ?? 100;
    this.#settle = options.settleMs ?? 200;
    this.#patience = options.patienceMs ?? 10_000;
    this.#onFile = options.onFile ?? (() => {});
    let directory = false;
    try {
      directory = statSync(dir).isDirectory();
    } catch (error) {
      throw captureError(dir, error);
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
    let bytes = this.#closedBytes;
    for (const { open } of this.#entries.values()) bytes += open?.source.readBytes ?? 0;
    return bytes;
  }

  drain(sink: PacketSink, maxPackets: number): boolean {
    return this.drainBatches((packets, count) => {
      for (let i = 0; i < count; i++) sink(packets[i]);
    }, maxPackets);
  }

  drainBatches(sink: BatchSink, maxPackets: number): boolean {
    for (let left = maxPackets; left > 0 && !this.#closed; ) {
      this.#current ??= this.#begin();
      const source = this.#current?.open?.source;
      if (this.#current === undefined || source === undefined) break;
      const before = source.packets;
      const more = source.drainBatches(sink, left);
      const count = source.packets - before;
      this.packets += count;
      left -= count;
      if (more && source.starved) break;
      this.starved = false;
      if (more) return true;
      this.#end(this.#current);
    }
    this.starved = true;
    return !this.#closed && this.problem === undefined;
  }

  /** Until a file has grown, ended or come. */
  async wait(): Promise<void> {
    const open = this.#current?.open;
    if (open?.input.finished === true) {
      // It is being unpacked.
      await open.source.wait();
      return;
    }
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
    for (const { open } of this.#entries.values()) open?.source.close();
  }

  /** Whether there is something to do; leaves the current file when it is another one's turn. */
  #hasMore(): boolean {
    const entry = this.#current;
    const others = this.#waiting.length + this.#last.length > 0;
    if (entry?.open === undefined) return others;
    const { open } = entry;
    const { size, changed, named } = open.input.now();
    if (this.#isAnew(entry, size, changed)) {
      this.#end(entry);
      this.#entries.delete(entry.id);
      return true;
    }
    const time = performance.now();
    if (size !== open.size) {
      open.size = size;
      open.grown = time;
      return true;
    }
    if (!named) open.input.finished = true;
    if (named && others && time - open.grown >= this.#settle) this.#leave(entry);
    return !named || this.#current === undefined;
  }

  /** Whether a file was begun anew since it was looked at last. */
  #isAnew(entry: Entry, size: number, changed: number): boolean {
    if (changed === entry.changed) return false;
    const { open } = entry;
    let mark: Buffer;
    try {
      const input = open?.input ?? new GrowingInput(entry.path);
      mark = input.mark();
      if (open === undefined) input.close();
    } catch {
      // Gone in the meantime.
      return false;
    }
    const anew = size < (open?.input.readBytes ?? entry.read) || isOther(entry.mark, mark);
    entry.changed = changed;
    if (mark.length > entry.mark.length) entry.mark = mark;
    return anew;
  }

  /** It may grow on while others are read. */
  #leave(entry: Entry): void {
    this.#current = undefined;
    if (entry.open !== undefined && entry.open.source.readBytes > 0) this.#tell(entry, undefined);
    const left = [...this.#entries.values()].filter(({ open }) => open !== undefined);
    if (left.length <= MOST_OPEN) return;
    left.sort((a, b) => (a.open?.grown ?? 0) - (b.open?.grown ?? 0));
    this.#finish(left.find((each) => !this.#last.includes(each)));
  }

  /** The next file: one that has grown, or a new one. */
  #begin(): Entry | undefined {
    const last = this.#last.shift();
    if (last?.open !== undefined) return last;
    for (;;) {
      const found = this.#waiting.shift();
      if (found === undefined) return undefined;
      const known = this.#entries.get(found.id);
      if (known?.open !== undefined) return known;
      try {
        const input = new GrowingInput(found.path);
        input.finished = PACKED.test(found.name);
        const entry: Entry = {
          id: found.id,
          path: found.path,
          open: { source: FileSource.over(found.path, input), input, size: -1, grown: performance.now() },
          changed: found.changed,
          mark: input.mark(),
          read: 0,
          told: false,
        };
        this.#entries.set(found.id, entry);
        return entry;
      } catch {
        // Gone before its turn came: nothing of it was read.
      }
    }
  }

  /** Nothing more is expected of a file that was left: its end is its end, within a packet too. */
  #finish(entry: Entry | undefined): void {
    if (entry?.open === undefined || entry.open.input.finished) return;
    entry.open.input.finished = true;
    this.#last.push(entry);
  }

  #end(entry: Entry): void {
    const { open } = entry;
    if (this.#current === entry) this.#current = undefined;
    this.#last = this.#last.filter((each) => each !== entry);
    if (open === undefined) return;
    const { source, input } = open;
    if (!input.now().named) this.#entries.delete(entry.id);
    entry.read = source.readBytes;
    entry.open = undefined;
    this.#closedBytes += source.readBytes;
    source.close();
    // A file that its writer has only made holds nothing yet, and nothing is wrong with it.
    if (source.readBytes > 0) this.#tell(entry, source.problem);
  }

  #tell(entry: Entry, problem: SluiceError | undefined): void {
    if (!entry.told) this.files++;
    if (problem !== undefined) this.damaged++;
    if (!entry.told || problem !== undefined) this.#onFile(entry.path, problem);
    entry.told = true;
  }

  /** Looks for files that have not been read, or that have grown. */
  async #look(): Promise<void> {
    const begin = performance.now();
    if (begin < this.#nextLook) return;
    let files: Found[];
    try {
      files = await this.#list();
    } catch (error) {
      this.problem = error instanceof SluiceError ? error : captureError(this.#dir, error);
      return;
    }
    const end = performance.now();
    this.#nextLook = end + Math.max(this.#poll / 2, (end - begin) * LOOK_SHARE);
    if (this.#closed) return;
    const ids = new Set(files.map(({ id }) => id));
    for (const id of this.#packed.keys()) if (!ids.has(id)) this.#packed.delete(id);
    for (const [id, entry] of this.#entries) {
      if (entry === this.#current) continue;
      if (entry.open === undefined) {
        if (!ids.has(id)) this.#entries.delete(id);
      } else if (!ids.has(id) || end - entry.open.grown >= this.#patience) this.#finish(entry);
    }
    this.#waiting = files.filter((file) => this.#isDue(file, end)).sort(inOrder);
  }

  #isDue(file: Found, now: number): boolean {
    const entry = this.#entries.get(file.id);
    if (entry === undefined) return this.#isReady(file, now);
    if (entry === this.#current) return false;
    entry.path = file.path;
    if (this.#isAnew(entry, file.size, file.changed)) {
      this.#end(entry);
      this.#entries.delete(file.id);
      return true;
    }
    const { open } = entry;
    return open !== undefined && !open.input.finished && file.size > open.input.readBytes;
  }

  /** A compressed file can be read once it has not grown for a while, another one when it has something, or nothing else has. */
  #isReady({ name, id, size }: Found, now: number): boolean {
    if (!PACKED.test(name)) return size > 0 || this.#current === undefined;
    const known = this.#packed.get(id);
    if (known === undefined || known.size !== size) {
      this.#packed.set(id, { size, grown: now });
      return false;
    }
    return now - known.grown >= this.#settle * PACKED_QUIET;
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
