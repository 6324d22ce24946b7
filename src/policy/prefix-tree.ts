/**
 * An index over sorted ranges of IPv6 addresses: a trie whose nodes take as many bits as they have ranges to tell apart, so that
 * a look-up touches few lines of memory however the networks are spread. Plain numbers, for shared memory.
 */

/** Words of a range: first and last address. */
export const RANGE_WORDS = 8;
/** Ranges that are searched without a further node. */
const FEW = 8;
const MOST_BITS = 16;
/** Entries of all nodes; beyond, what is left is searched. */
const MAX_ENTRIES = 2 ** 27;

export interface PrefixTree {
  /** Two words an entry: the first range that may hold an address of it, and its node (0: none). */
  readonly tree: Uint32Array;
  /** The uppermost node: place of its first entry * 32 + bits that it looks at; 0: none. */
  readonly root: number;
}

/** `ranges` hold `count` disjoint ranges in order. */
export function prefixTree(ranges: Uint32Array, count: number): PrefixTree {
  const builder = new TreeBuilder(ranges, count);
  const root = count > FEW ? builder.node(new Uint32Array(4), 0, 0, count) : 0;
  return { tree: builder.entries(), root };
}

/** Index behind the last range that begins no later than `address`, four words; 0: there is none. */
export function rangeBefore(
  { tree, root }: PrefixTree,
  ranges: Uint32Array,
  count: number,
  address: Uint32Array,
): number {
  let low = 0;
  let end = count;
  for (let node = root, bit = 0; node !== 0; ) {
    const bits = node & 31;
    const entry = ((node >>> 5) + bitsAt(address, bit, bits)) * 2;
    bit += bits;
    low = tree[entry];
    node = tree[entry + 1];
    end = Math.min(count, tree[entry + 2] + 1);
  }
  while (low < end) {
    const middle = (low + end) >>> 1;
    if (compareAddress(ranges, middle * RANGE_WORDS, address, 0) <= 0) low = middle + 1;
    else end = middle;
  }
  return low;
}

/** Below 0, 0, or above: as numbers of 128 bits. */
export function compareAddress(a: Uint32Array, at: number, b: Uint32Array, bt: number): number {
  for (let i = 0; i < 4; i++) {
    const difference = a[at + i] - b[bt + i];
    if (difference !== 0) return difference;
  }
  return 0;
}

class TreeBuilder {
  readonly #ranges: Uint32Array;
  readonly #count: number;
  readonly #start = new Uint32Array(4);
  #pool = new Uint32Array(1024);
  #used = 0;

  constructor(ranges: Uint32Array, count: number) {
    this.#ranges = ranges;
    this.#count = count;
  }

  entries(): Uint32Array {
    return this.#pool.subarray(0, this.#used * 2);
  }

  /** Of the addresses that begin with `bit` bits of `prefix`: ranges from `from` on, `next` is the first one behind them. */
  node(prefix: Uint32Array, bit: number, from: number, next: number): number {
    const bits = Math.min(MOST_BITS, 128 - bit, 32 - Math.clz32(next - from));
    const size = 2 ** bits;
    if (this.#used + size + 1 > MAX_ENTRIES) return 0;
    const offset = this.#used;
    this.#reserve(size + 1);
    for (let value = 0, range = from; value < size; value++) {
      this.#start.set(prefix);
      setBits(this.#start, bit, bits, value);
      while (range < next && compareAddress(this.#ranges, range * RANGE_WORDS + 4, this.#start, 0) < 0)
        range++;
      this.#pool[(offset + value) * 2] = range;
    }
    this.#pool[(offset + size) * 2] = next;
    if (bit + bits === 128) return offset * 32 + bits;
    for (let value = 0; value < size; value++) {
      const first = this.#pool[(offset + value) * 2];
      const behind = this.#pool[(offset + value + 1) * 2];
      if (Math.min(this.#count, behind + 1) - first <= FEW) continue;
      const below = prefix.slice();
      setBits(below, bit, bits, value);
      const node = this.node(below, bit + bits, first, behind);
      this.#pool[(offset + value) * 2 + 1] = node;
    }
    return offset * 32 + bits;
  }

  #reserve(entries: number): void {
    this.#used += entries;
    if (this.#used * 2 <= this.#pool.length) return;
    const wider = new Uint32Array(Math.max(this.#pool.length * 2, this.#used * 2));
    wider.set(this.#pool);
    this.#pool = wider;
  }
}

/** Bits from the most significant on. */
function bitsAt(words: Uint32Array, bit: number, bits: number): number {
  const word = bit >>> 5;
  const off = bit & 31;
  if (off + bits <= 32) return (words[word] << off) >>> (32 - bits);
  return ((words[word] << off) | (words[word + 1] >>> (32 - off))) >>> (32 - bits);
}

function setBits(words: Uint32Array, bit: number, bits: number, value: number): void {
  const word = bit >>> 5;
  const over = (bit & 31) + bits - 32;
  if (over <= 0) words[word] |= value << -over;
  else {
    words[word] |= value >>> over;
    words[word + 1] |= value << (32 - over);
  }
}
