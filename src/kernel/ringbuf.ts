import { MapType } from './constants.ts';
import { attempt, closedError } from './errors.ts';
import type { BpfMap } from './map.ts';
import { KernelMemory, PAGE } from './memory.ts';
import { Watch } from './watch.ts';

const BUSY = 0x80000000;
const DISCARD = 0x40000000;
const HEADER = 8;

/** One record: bytes `offset` to `offset + length` of `view`, valid until the call returns. */
export type RecordCallback = (view: DataView, offset: number, length: number) => void;

/**
 * The consumer of a BPF_MAP_TYPE_RINGBUF (one per map). Records are read in place; the kernel may overwrite them once
 * the batch has been handed over.
 */
export class RingBuffer {
  readonly #record: RecordCallback;
  readonly #mask: number;
  readonly #consumer: KernelMemory;
  readonly #producer: KernelMemory;
  readonly #consumed: BigInt64Array;
  readonly #produced: BigInt64Array;
  readonly #headers: Int32Array;
  readonly #view: DataView;
  readonly #watch: Watch;
  #position = 0;
  #closed = false;

  constructor(map: BpfMap, record: RecordCallback, options: { keepAlive?: boolean } = {}) {
    if (map.type !== MapType.ringbuf) throw new RangeError(`map ${map.name} is not a ring buffer`);
    const fd = map.fd;
    const size = map.maxEntries;
    this.#record = record;
    this.#mask = size - 1;
    this.#consumer = attempt('map.mmap', `map ${map.name}`, () => new KernelMemory(fd, PAGE, 0, true));
    try {
      // The kernel maps the data twice in a row, so that a record never wraps.
      this.#producer = attempt(
        'map.mmap',
        `map ${map.name}`,
        () => new KernelMemory(fd, PAGE + 2 * size, PAGE, false),
      );
    } catch (error) {
      this.#consumer.release();
      throw error;
    }
    this.#consumed = new BigInt64Array(this.#consumer.buffer, 0, 1);
    this.#produced = new BigInt64Array(this.#producer.buffer, 0, 1);
    this.#headers = new Int32Array(this.#producer.buffer, PAGE, size / 2);
    this.#view = new DataView(this.#producer.buffer, PAGE, 2 * size);
    this.#position = Number(this.#consumed[0]);
    try {
      this.#watch = new Watch(fd, () => this.poll(), options.keepAlive ?? true);
    } catch (error) {
      this.#consumer.release();
      this.#producer.release();
      throw error;
    }
  }

  /** Hands over what is there now; the number of records. Called by itself when the kernel wakes the map up. */
  poll(): number {
    if (this.#closed) throw closedError('the ring buffer');
    let records = 0;
    const end = Number(Atomics.load(this.#produced, 0));
    try {
      while (this.#position < end && !this.#closed) {
        // Positions stay below 2^53; the mask needs their low 32 bits only.
        const at = (this.#position % 4294967296) & this.#mask;
        const header = Atomics.load(this.#headers, at >> 2);
        if ((header & BUSY) !== 0) break;
        const length = header & ~DISCARD;
        this.#position += (length + HEADER + 7) & ~7;
        if ((header & DISCARD) === 0) {
          records++;
          this.#record(this.#view, at + HEADER, length);
        }
      }
    } finally {
      // The callback may have closed it, or thrown: a record is handed over once.
      if (!this.#closed) Atomics.store(this.#consumed, 0, BigInt(this.#position));
    }
    return records;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch.stop();
    this.#consumer.release();
    this.#producer.release();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
