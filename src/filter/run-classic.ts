import { type CbpfProgram, encodeCbpf } from '../ebpf/index.ts';
import { runClassicFilterBatch } from '../kernel/index.ts';

/** Words of FrameBatch.frames for each frame. */
const FRAME_WORDS = 3;
const FIRST_BYTES = 1 << 16;
/** Beyond, a batch is full. */
const FULL_BYTES = 1 << 20;

/** Frames copied into one piece of memory, to be run through a filter in one call. */
export class FrameBatch {
  /** Bytes of all frames. */
  memory = new Uint8Array(FIRST_BYTES);
  /** Three words each: offset in `memory`, captured length, length on the wire. */
  readonly frames: Uint32Array;
  /** What the filter returned for each. */
  readonly returns: Uint32Array;
  count = 0;
  #used = 0;
  readonly #max: number;

  constructor(max = 4096) {
    this.frames = new Uint32Array(max * FRAME_WORDS);
    this.returns = new Uint32Array(max);
    this.#max = max;
  }

  get full(): boolean {
    return this.count === this.#max || this.#used >= FULL_BYTES;
  }

  /** Unless `full`. */
  add(u8: Uint8Array, offset: number, captured: number, wire: number): void {
    if (this.#used + captured > this.memory.length) {
      const larger = new Uint8Array(Math.max(this.memory.length * 2, this.#used + captured));
      larger.set(this.memory.subarray(0, this.#used));
      this.memory = larger;
    }
    this.memory.set(u8.subarray(offset, offset + captured), this.#used);
    this.frames.set([this.#used, captured, wire], this.count * FRAME_WORDS);
    this.#used += captured;
    this.count++;
  }

  clear(): void {
    this.count = 0;
    this.#used = 0;
  }
}

/** Something that runs a classic program over frames. */
export interface FilterEngine {
  /** Runs the frames of the batch and fills in `returns`; `first` is the index of the first frame, for messages. */
  run(batch: FrameBatch, first?: number): void;
  close(): void;
}

/** libpcap's interpreter, in this process: no privilege is needed. */
export class ClassicEngine implements FilterEngine {
  readonly #filter: Uint8Array;

  constructor(program: CbpfProgram) {
    this.#filter = encodeCbpf(program);
  }

  run(batch: FrameBatch): void {
    const { memory, frames, returns, count } = batch;
    runClassicFilterBatch(
      this.#filter,
      memory,
      frames.subarray(0, count * FRAME_WORDS),
      returns.subarray(0, count),
    );
  }

  close(): void {
    // Nothing is held.
  }
}
