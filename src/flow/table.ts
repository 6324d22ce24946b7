import {
  C_GENERATION,
  C_HASH,
  C_HISTORY_LENGTH,
  C_KEY,
  C_UID,
  COLD_BYTES,
  COLD_DOUBLES,
  COLD_WORDS,
  DOUBLES,
  ENDPOINT,
  FLAGS,
  Flag,
  KEY,
  RECORD_BYTES,
  SEEN,
  Seen,
  WORDS,
} from './layout.ts';

/** Large memory of the C library begins 16 bytes behind a page: this far behind that, records are aligned. */
const ALIGN = 112;
const KEY4_WORDS = 4;
/** Both sides have sent data and acknowledgements. */
const TALKED = ((Seen.data | Seen.ack) << 16) | Seen.data | Seen.ack;
// Indices into the totals of a table.
export const T_FREE = 0;
export const T_FRESH = 1;
export const T_ACTIVE = 2;
/** Keys at a time for `fetch`. */
export const MOST_FETCHED = 32;

/**
 * The flow records and the index over their keys: open addressing with linear probing, seeded, at most half full, and
 * without tombstones (what follows a removed entry moves up). The memory is reserved at once and touched as it is used:
 * slots are handed out in order and the latest freed first.
 */
export class FlowTable {
  readonly capacity: number;
  /** The hot parts. */
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  /** The cold parts. */
  readonly cold: Int32Array;
  readonly coldDoubles: Float64Array;
  readonly coldBytes: Uint8Array;
  /** Slots that were used and are free, the latest last. */
  readonly free: Int32Array;
  /** How many of them (T_FREE), where slots begin that were never used (T_FRESH), and how many are in use (T_ACTIVE). */
  readonly totals = new Int32Array(3);
  /** Pairs of hash and slot + 1; 0: empty. */
  readonly index: Int32Array;

  readonly #mask: number;
  /** Words 0 to 2 are for the hash. */
  readonly seed: Int32Array;
  readonly #entries: Int32Array;
  /** Takes what `fetch` reads, so that it is read. */
  fetched = 0;

  /** `seed` is for tests; without it the hash is not to be foreseen. */
  constructor(capacity: number, seed: Int32Array) {
    this.capacity = capacity;
    const hot = new ArrayBuffer(ALIGN + capacity * RECORD_BYTES);
    this.words = new Int32Array(hot, ALIGN);
    this.doubles = new Float64Array(hot, ALIGN);
    const cold = new ArrayBuffer(ALIGN + capacity * COLD_BYTES);
    this.cold = new Int32Array(cold, ALIGN);
    this.coldDoubles = new Float64Array(cold, ALIGN);
    this.coldBytes = new Uint8Array(cold, ALIGN);
    this.free = new Int32Array(capacity);
    const entries = 2 ** Math.ceil(Math.log2(capacity * 2));
    this.index = new Int32Array(entries * 2);
    this.#mask = entries - 1;
    this.seed = seed;
    this.#entries = new Int32Array(MOST_FETCHED);
  }

  /** Hash of `count` words: multiplication by secret odd numbers, folded after each word. */
  hash(words: Int32Array, from: number, count: number): number {
    const seed = this.seed;
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
    const index = this.index;
    const mask = this.#mask;
    const words = this.words;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const entry = index[2 * at + 1];
      if (entry === 0) return -1;
      if (index[2 * at] !== hash) continue;
      const slot = entry - 1;
      if (count !== KEY4_WORDS) {
        if (this.#isWide(slot, key, from)) return slot;
        continue;
      }
      const base = slot * WORDS;
      if (
        words[base + KEY] === key[from] &&
        words[base + KEY + 1] === key[from + 1] &&
        words[base + KEY + 2] === key[from + 2] &&
        words[base + KEY + 3] === key[from + 3] &&
        (words[base + FLAGS] & Flag.wide) === 0
      )
        return slot;
    }
  }

  /**
   * Reads where the keys with these hashes will be looked for, and the hot parts found there: one after the other without
   * waiting, so that the processor fetches the memory for all of them at the same time. Changes nothing.
   */
  fetch(hashes: Int32Array, count: number): void {
    const index = this.index;
    const mask = this.#mask;
    const words = this.words;
    const entries = this.#entries;
    for (let i = 0; i < count; i++) entries[i] = index[2 * (hashes[i] & mask) + 1];
    let read = 0;
    let free = this.totals[T_FREE];
    for (let i = 0; i < count; i++) {
      const entry = entries[i];
      if (entry !== 0) read ^= words[(entry - 1) * WORDS] ^ words[(entry - 1) * WORDS + ENDPOINT];
      // A flow begins, perhaps: in this slot then.
      else if (free > 0) read ^= this.#all(this.free[--free]);
    }
    for (let i = 0; i < count; i++) {
      const slot = entries[i] - 1;
      if (slot < 0) continue;
      if ((words[slot * WORDS + FLAGS] & Flag.wide) !== 0) read ^= this.cold[slot * COLD_WORDS];
      // Letters may be added.
      if ((words[slot * WORDS + SEEN] & TALKED) !== TALKED)
        read ^= this.cold[slot * COLD_WORDS + C_HISTORY_LENGTH];
    }
    this.fetched = read;
  }

  /** Likewise for flows of which several will be ended: their records and what `remove` touches. */
  fetchSlots(slots: Int32Array, count: number): void {
    let read = 0;
    for (let i = 0; i < count; i++) read ^= this.#all(slots[i]);
    for (let i = 0; i < count; i++)
      read ^= this.index[2 * (this.cold[slots[i] * COLD_WORDS + C_HASH] & this.#mask)];
    this.fetched = read;
  }

  /** A word of each line of a record. */
  #all(slot: number): number {
    const hot = slot * WORDS;
    const cold = slot * COLD_WORDS;
    return (
      this.words[hot] ^
      this.words[hot + 16] ^
      this.cold[cold] ^
      this.cold[cold + 16] ^
      this.cold[cold + 32] ^
      this.cold[cold + 48]
    );
  }

  #isWide(slot: number, key: Int32Array, from: number): boolean {
    if ((this.words[slot * WORDS + FLAGS] & Flag.wide) === 0) return false;
    const cold = this.cold;
    const base = slot * COLD_WORDS + C_KEY;
    let i = 0;
    while (i < 12 && cold[base + i] === key[from + i]) i++;
    return i === 12;
  }

  /** Takes a free slot, cleared save for its generation and history and with its key set and indexed; -1 when all are in use. */
  insert(key: Int32Array, from: number, count: number, hash: number): number {
    let slot = this.totals[T_FRESH];
    if (this.totals[T_FREE] > 0) slot = this.free[--this.totals[T_FREE]];
    else if (slot === this.capacity) return -1;
    else this.totals[T_FRESH] = slot + 1;
    const words = this.words;
    const cold = this.cold;
    const base = slot * WORDS;
    const coldBase = slot * COLD_WORDS;
    const generation = cold[coldBase + C_GENERATION];
    clear(this.doubles, slot * DOUBLES, DOUBLES);
    clear(this.coldDoubles, slot * COLD_DOUBLES, C_UID / 2);
    for (let i = 0; i < count; i++) cold[coldBase + C_KEY + i] = key[from + i];
    if (count === KEY4_WORDS) for (let i = 0; i < KEY4_WORDS; i++) words[base + KEY + i] = key[from + i];
    words[base + FLAGS] = Flag.open | (count === KEY4_WORDS ? 0 : Flag.wide);
    cold[coldBase + C_HASH] = hash;
    cold[coldBase + C_GENERATION] = generation;
    cold[coldBase + C_HISTORY_LENGTH] = 0;
    const index = this.index;
    const mask = this.#mask;
    let at = hash & mask;
    while (index[2 * at + 1] !== 0) at = (at + 1) & mask;
    index[2 * at] = hash;
    index[2 * at + 1] = slot + 1;
    this.totals[T_ACTIVE]++;
    return slot;
  }

  remove(slot: number): void {
    const cold = this.cold;
    const coldBase = slot * COLD_WORDS;
    const index = this.index;
    const mask = this.#mask;
    let hole = cold[coldBase + C_HASH] & mask;
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
    this.words[slot * WORDS + FLAGS] = 0;
    cold[coldBase + C_GENERATION] = (cold[coldBase + C_GENERATION] + 1) | 0;
    this.free[this.totals[T_FREE]++] = slot;
    this.totals[T_ACTIVE]--;
  }

  isOpen(slot: number): boolean {
    return ((this.words[slot * WORDS + FLAGS] ?? 0) & Flag.open) !== 0;
  }

  generation(slot: number): number {
    return this.cold[slot * COLD_WORDS + C_GENERATION];
  }

  get active(): number {
    return this.totals[T_ACTIVE];
  }

  /** Slots that have ever been used; those above are free. */
  get used(): number {
    return this.totals[T_FRESH];
  }
}

/** Doubles of 0 are words of 0; a loop, for a call costs more than so few stores. */
function clear(doubles: Float64Array, from: number, count: number): void {
  for (let i = from; i < from + count; i++) doubles[i] = 0;
}
