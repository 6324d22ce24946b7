import { addon, type RawMapInfo } from './addon.ts';
import { MapFlag, MapType } from './constants.ts';
import { attempt, check, closedError, KernelError } from './errors.ts';
import { KernelMemory, PAGE, roundUp } from './memory.ts';
import { possibleCpus } from './system.ts';

const PER_CPU: ReadonlySet<number> = new Set([
  MapType.percpuHash,
  MapType.percpuArray,
  MapType.lruPercpuHash,
]);

/** errno numbers that element calls answer without it being a failure. */
const ENOENT = 2;

export interface MapOptions {
  type: number;
  keySize: number;
  valueSize: number;
  maxEntries: number;
  flags?: number;
  name?: string;
}

/** Where a batched read of a map stands; `undefined` inside means the start. One cursor, one reader. */
export class BatchCursor {
  readonly bytes: Uint8Array = new Uint8Array(64);
  started = false;

  reset(): void {
    this.started = false;
  }
}

/**
 * A BPF map. Keys and values are raw bytes in the machine's order; buffers must have at least `keySize` and
 * `valueBytes` bytes. A handle made by `adopt` uses a descriptor that someone else owns and does not close it.
 */
export class BpfMap {
  readonly type: number;
  readonly id: number;
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  /** Bytes that one look-up reads: `valueSize`, or for per-CPU maps one slot of 8-byte multiples for each possible CPU. */
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
  #fd: number;
  readonly #owned: boolean;
  readonly #memory: KernelMemory[] = [];

  private constructor(fd: number, owned: boolean) {
    let info: RawMapInfo;
    try {
      info = attempt('info', `map descriptor ${fd}`, () => addon().mapInfo(fd));
    } catch (error) {
      if (owned) addon().closeFd(fd);
      throw error;
    }
    this.type = info.type;
    this.id = info.id;
    this.name = info.name;
    this.keySize = info.keySize;
    this.valueSize = info.valueSize;
    this.valueBytes = PER_CPU.has(info.type) ? roundUp(info.valueSize, 8) * possibleCpus() : info.valueSize;
    this.maxEntries = info.maxEntries;
    this.flags = info.flags;
    this.#fd = fd;
    this.#owned = owned;
  }

  /** A new map of its own, without an object file. */
  static create(options: MapOptions): BpfMap {
    const { type, name = '', keySize, valueSize, maxEntries, flags = 0 } = options;
    const fd = addon().mapCreate(type, name, keySize, valueSize, maxEntries, flags);
    return new BpfMap(
      check('map.create', fd, () => `create map ${name}`),
      true,
    );
  }

  /** Takes over a descriptor that the addon has just made in this thread: `close` closes it. */
  static fromFd(fd: number): BpfMap {
    return new BpfMap(fd, true);
  }

  /** A handle on a descriptor that another thread of this process owns and keeps open. */
  static adopt(fd: number): BpfMap {
    return new BpfMap(fd, false);
  }

  /** A handle of its own, also once this one is closed; unlike by its id, CAP_BPF is enough for it. */
  duplicate(): BpfMap {
    const fd = addon().duplicateFd(this.fd);
    return new BpfMap(
      check('map.open', fd, () => `duplicate the descriptor of map ${this.name}`),
      true,
    );
  }

  static fromId(id: number): BpfMap {
    return new BpfMap(
      check('map.open', addon().fdById(0, id), () => `open map ${id}`),
      true,
    );
  }

  /** `readOnly` asks for no more than leave to read, which a pin may give to more users than leave to write. */
  static openPinned(path: string, readOnly = false): BpfMap {
    return new BpfMap(
      check('pin.open', addon().objGet(path, 0, readOnly), () => `open the map pinned at ${path}`),
      true,
    );
  }

  get fd(): number {
    if (this.#fd < 0) throw closedError(`map ${this.name}`);
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Reads the value of a key into `out`; false when there is none. */
  get(key: Uint8Array, out: Uint8Array): boolean {
    const result = addon().mapLookup(this.fd, key, out, 0, this.keySize, this.valueBytes);
    if (result === 0) return true;
    if (result === -ENOENT) return false;
    throw new KernelError('map.lookup', -result, `look up in map ${this.name}`);
  }

  /** Writes a value; throws MAP_FULL when there is no room, EEXIST or ENOENT as `flags` (UpdateFlag) ask for. */
  set(key: Uint8Array, value: Uint8Array, flags = 0): void {
    check('map.update', this.trySet(key, value, flags), () => `update map ${this.name}`);
  }

  /** As `set`, but answers 0 or a negative errno. */
  trySet(key: Uint8Array, value: Uint8Array, flags = 0): number {
    return addon().mapUpdate(this.fd, key, value, flags, this.keySize, this.valueBytes);
  }

  /** False when there was no such key. */
  delete(key: Uint8Array): boolean {
    const result = addon().mapDelete(this.fd, key, this.keySize);
    if (result === 0) return true;
    if (result === -ENOENT) return false;
    throw new KernelError('map.delete', -result, `delete from map ${this.name}`);
  }

  /** Writes the key after `key` (the first one for undefined, or when `key` has gone) to `next`; false at the end. */
  nextKey(key: Uint8Array | undefined, next: Uint8Array): boolean {
    const result = addon().mapNextKey(this.fd, key, next, this.keySize);
    if (result === 0) return true;
    if (result === -ENOENT) return false;
    throw new KernelError('map.lookup', -result, `walk map ${this.name}`);
  }

  /**
   * Reads up to `max` elements from where the cursor stands, on the thread pool. Elements that come and go meanwhile
   * may be missed or seen twice; those that stay are seen. The buffers must be left alone until the promise settles.
   */
  async readBatch(
    cursor: BatchCursor,
    keys: Uint8Array,
    values: Uint8Array,
    max: number,
  ): Promise<{ count: number; done: boolean }> {
    const { fd, keySize, valueBytes } = this;
    const first = !cursor.started;
    const started = attempt('map.batch', `read map ${this.name}`, () =>
      addon().mapLookupBatch(fd, cursor.bytes, first, keys, values, max, keySize, valueBytes),
    );
    const result = await started;
    if (result <= -4294967296)
      throw new KernelError('map.batch', -(result + 4294967296), `read map ${this.name}`);
    cursor.started = true;
    if (result >= 0) return { count: result, done: false };
    return { count: -1 - result, done: true };
  }

  /** Bytes from one element of a mapped array to the next. */
  get mappedStride(): number {
    return roundUp(this.valueSize, 8);
  }

  /** The values of an mmapable array, `mappedStride` bytes each; shared with the kernel until `close`. */
  mmap(writable: boolean): ArrayBuffer {
    if (this.type !== MapType.array || (this.flags & MapFlag.mmapable) === 0) {
      throw new RangeError(`map ${this.name} is not an mmapable array`);
    }
    const length = roundUp(this.mappedStride * this.maxEntries, PAGE);
    const fd = this.fd;
    const memory = attempt(
      'map.mmap',
      `map ${this.name} into memory`,
      () => new KernelMemory(fd, length, 0, writable),
    );
    this.#memory.push(memory);
    return memory.buffer;
  }

  pin(path: string): void {
    check('pin', addon().objPin(this.fd, path), () => `pin map ${this.name} at ${path}`);
  }

  close(): void {
    if (this.#fd < 0) return;
    for (const memory of this.#memory) memory.release();
    this.#memory.length = 0;
    if (this.#owned) addon().closeFd(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
