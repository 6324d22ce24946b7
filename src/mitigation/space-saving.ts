/** Words of a key: an address cut to a prefix, and what else tells it from others. */
export const KEY_WORDS = 5;

const NONE = -1;

/**
 * The heaviest of many keys in memory that does not grow (Metwally et al., Efficient Computation of Frequent and Top-k
 * Elements in Data Streams, 2005), with weights. `count` never says less than the truth, and at most `error` more; `error` is
 * at most `total / capacity`; every key of more than that is there.
 */
export class SpaceSaving {
  readonly capacity: number;
  /** Of all that was added. */
  total = 0;
  /** Slots in use; each of the following has a row for each slot. */
  used = 0;
  readonly keys: Uint32Array;
  readonly count: Float64Array;
  readonly error: Float64Array;
  /** Of what was added since the slot has its key. */
  readonly bytes: Float64Array;
  readonly samples: Uint32Array;
  /** Slots as a heap, the smallest first, and where in it each is. */
  readonly #heap: Int32Array;
  readonly #place: Int32Array;
  /** Slots by hash, open addressing. */
  readonly #index: Int32Array;
  readonly #mask: number;
  readonly #seed: number;

  constructor(capacity: number, seed = 0) {
    this.capacity = capacity;
    this.keys = new Uint32Array(capacity * KEY_WORDS);
    this.count = new Float64Array(capacity);
    this.error = new Float64Array(capacity);
    this.bytes = new Float64Array(capacity);
    this.samples = new Uint32Array(capacity);
    this.#heap = new Int32Array(capacity);
    this.#place = new Int32Array(capacity);
    const size = 2 ** Math.ceil(Math.log2(capacity * 2));
    this.#index = new Int32Array(size).fill(NONE);
    this.#mask = size - 1;
    this.#seed = seed;
  }

  /** Bytes of memory. */
  get memory(): number {
    return this.capacity * (KEY_WORDS * 4 + 24 + 4 + 8) + this.#index.byteLength;
  }

  /** Forgets everything. */
  clear(): void {
    this.used = 0;
    this.total = 0;
    this.#index.fill(NONE);
  }

  add(a: number, b: number, c: number, d: number, e: number, weight: number, bytes: number): void {
    this.total += weight;
    let at = this.#home(a, b, c, d, e);
    for (;;) {
      const slot = this.#index[at];
      if (slot === NONE) break;
      const key = slot * KEY_WORDS;
      if (
        this.keys[key + 3] === d &&
        this.keys[key + 4] === e &&
        this.keys[key + 2] === c &&
        this.keys[key + 1] === b &&
        this.keys[key] === a
      ) {
        this.count[slot] += weight;
        this.bytes[slot] += bytes;
        this.samples[slot]++;
        this.#down(this.#place[slot]);
        return;
      }
      at = (at + 1) & this.#mask;
    }
    let slot = this.used;
    if (slot < this.capacity) {
      this.used++;
      this.count[slot] = 0;
      this.#heap[slot] = slot;
      this.#place[slot] = slot;
      this.#index[at] = slot;
    } else {
      slot = this.#heap[0];
      this.#remove(slot);
      let free = this.#home(a, b, c, d, e);
      while (this.#index[free] !== NONE) free = (free + 1) & this.#mask;
      this.#index[free] = slot;
    }
    this.error[slot] = this.count[slot];
    this.count[slot] += weight;
    this.bytes[slot] = bytes;
    this.samples[slot] = 1;
    const key = slot * KEY_WORDS;
    this.keys[key] = a;
    this.keys[key + 1] = b;
    this.keys[key + 2] = c;
    this.keys[key + 3] = d;
    this.keys[key + 4] = e;
    if (this.error[slot] === 0) this.#up(this.#place[slot]);
    else this.#down(this.#place[slot]);
  }

  #home(a: number, b: number, c: number, d: number, e: number): number {
    let hash = this.#seed ^ Math.imul(d, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15) ^ c, 0x85ebca77);
    hash = Math.imul(hash ^ (hash >>> 13) ^ b, 0xc2b2ae3d);
    hash = Math.imul(hash ^ (hash >>> 16) ^ a, 0x27d4eb2f);
    hash = Math.imul(hash ^ (hash >>> 15) ^ e, 0x165667b1);
    return (hash ^ (hash >>> 14)) & this.#mask;
  }

  /** Takes a slot out of the index; those behind it that were pushed on move up (Knuth, 6.4, algorithm R). */
  #remove(slot: number): void {
    const home = (s: number): number => {
      const k = s * KEY_WORDS;
      return this.#home(this.keys[k], this.keys[k + 1], this.keys[k + 2], this.keys[k + 3], this.keys[k + 4]);
    };
    let hole = home(slot);
    while (this.#index[hole] !== slot) hole = (hole + 1) & this.#mask;
    let at = hole;
    for (;;) {
      at = (at + 1) & this.#mask;
      const other = this.#index[at];
      if (other === NONE) break;
      const wanted = home(other);
      if (((at - wanted) & this.#mask) >= ((at - hole) & this.#mask)) {
        this.#index[hole] = other;
        hole = at;
      }
    }
    this.#index[hole] = NONE;
  }

  #up(from: number): void {
    let at = from;
    const slot = this.#heap[at];
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.count[this.#heap[parent]] <= this.count[slot]) break;
      this.#put(at, this.#heap[parent]);
      at = parent;
    }
    this.#put(at, slot);
  }

  #down(from: number): void {
    let at = from;
    const slot = this.#heap[at];
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.used) break;
      if (child + 1 < this.used && this.count[this.#heap[child + 1]] < this.count[this.#heap[child]]) child++;
      if (this.count[this.#heap[child]] >= this.count[slot]) break;
      this.#put(at, this.#heap[child]);
      at = child;
    }
    this.#put(at, slot);
  }

  #put(at: number, slot: number): void {
    this.#heap[at] = slot;
    this.#place[slot] = at;
  }
}
