import { FLAGS, Flag, GENERATION, HASH, KEY, RECORD_BYTES, WORDS } from './layout.ts';

/**
 * The flow records and the index over their keys: open addressing with linear probing, seeded, at most half full, and
 * without tombstones (what follows a removed entry moves up). The memory is reserved at once and touched as it is used:
 * slots are handed out in order and the latest freed first.
 */
export class FlowTable {
  readonly capacity: number;
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  readonly bytes: Uint8Array;
  active = 0;

  readonly #free: Int32Array;
  #freeCount = 0;
  /** Slots never used so far begin here. */
  #fresh = 0;
  /** Pairs of hash and slot + 1; 0: empty. */
  readonly #index: Int32Array;
  readonly #mask: number;
  readonly #seed: Int32Array;

  /** `seed` is for tests; without it the hash is not to be foreseen. */
  constructor(capacity: number, seed: Int32Array) {
    this.capacity = capacity;
    const buffer = new ArrayBuffer(capacity * RECORD_BYTES);
    this.words = new Int32Array(buffer);
    this.doubles = new Float64Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.#free = new Int32Array(capacity);
    const entries = 2 ** Math.ceil(Math.log2(capacity * 2));
    this.#index = new Int32Array(entries * 2);
    this.#mask = entries - 1;
    this.#seed = seed;
  }

  /** Hash of `count` words: multiplication by secret odd numbers, folded after each word. */
  hash(words: Int32Array, from: number, count: number): number {
    const seed = this.#seed;
    const a = seed[1];
    let h = seed[0];
    for (let i = 0; i < count; i++) {
      h = Math.imul(h ^ words[from + i], a);
      h ^= h >>> 15;
    }
    h = Math.imul(h, seed[2]);
    return h ^ (h >>> 16);
  }

  /** The slot with this key (4 or 12 words at `from`), or -1. */
  find(key: Int32Array, from: number, count: number, hash: number): number {
    const index = this.#index;
    const mask = this.#mask;
    const words = this.words;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const entry = index[2 * at + 1];
      if (entry === 0) return -1;
      if (index[2 * at] !== hash) continue;
      const base = (entry - 1) * WORDS;
      if ((words[base + FLAGS] & Flag.wide) === (count === 4 ? 0 : Flag.wide)) {
        let i = 0;
        while (i < count && words[base + KEY + i] === key[from + i]) i++;
        if (i === count) return entry - 1;
      }
    }
  }

  /** Takes a free slot, cleared save for its generation and with its key set and indexed; -1 when all are in use. */
  insert(key: Int32Array, from: number, count: number, hash: number): number {
    let slot = this.#fresh;
    if (this.#freeCount > 0) slot = this.#free[--this.#freeCount];
    else if (slot === this.capacity) return -1;
    else this.#fresh++;
    const words = this.words;
    const base = slot * WORDS;
    const generation = words[base + GENERATION];
    words.fill(0, base, base + WORDS);
    for (let i = 0; i < count; i++) words[base + KEY + i] = key[from + i];
    words[base + FLAGS] = Flag.open | (count === 4 ? 0 : Flag.wide);
    words[base + HASH] = hash;
    words[base + GENERATION] = generation;
    const index = this.#index;
    const mask = this.#mask;
    let at = hash & mask;
    while (index[2 * at + 1] !== 0) at = (at + 1) & mask;
    index[2 * at] = hash;
    index[2 * at + 1] = slot + 1;
    this.active++;
    return slot;
  }

  remove(slot: number): void {
    const words = this.words;
    const base = slot * WORDS;
    const index = this.#index;
    const mask = this.#mask;
    let hole = words[base + HASH] & mask;
    while (index[2 * hole + 1] !== slot + 1) hole = (hole + 1) & mask;
    for (let at = (hole + 1) & mask; index[2 * at + 1] !== 0; at = (at + 1) & mask) {
      const home = index[2 * at] & mask;
      // An entry may move into the hole unless its home lies behind the hole.
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      index[2 * hole] = index[2 * at];
      index[2 * hole + 1] = index[2 * at + 1];
      hole = at;
    }
    index[2 * hole + 1] = 0;
    words[base + FLAGS] = 0;
    words[base + GENERATION] = (words[base + GENERATION] + 1) | 0;
    this.#free[this.#freeCount++] = slot;
    this.active--;
  }

  isOpen(slot: number): boolean {
    return ((this.words[slot * WORDS + FLAGS] ?? 0) & Flag.open) !== 0;
  }

  /** Slots that have ever been used; those above are free. */
  get used(): number {
    return this.#fresh;
  }
}
