/**
 * An index over edges among IPv6 addresses: a trie whose nodes take as many bits as they have edges to tell apart, so that a
 * look-up touches few lines of memory however the networks are spread. Plain numbers, for shared memory.
 */

/** Edges that are searched without a further node: a line of the cache. */
const FEW = 8;
const MOST_BITS = 16;
/** Entries of all nodes; beyond, what is left is searched. */
const MAX_ENTRIES = 2 ** 27;

/** Addresses in order, each of the first `words` words: the others of four are zeros. */
export interface Edges {
  readonly edges: Uint32Array;
  readonly words: 2 | 4;
}

export interface PrefixTree {
  /** Two words an entry: the first edge that is not below it, and its node (0: none). */
  readonly tree: Uint32Array;
  /** The uppermost node: place of its first entry * 32 + bits that it looks at; 0: none. */
  readonly root: number;
}

export function prefixTree(edges: Edges): PrefixTree {
  const builder = new TreeBuilder(edges);
  const count = edges.edges.length / edges.words;
  const root = count > FEW ? builder.node(new Uint32Array(4), 0, 0, count) : 0;
  return { tree: builder.entries(), root };
}

/** How many edges are no higher than `address`, four words. */
export function edgesUpTo({ tree, root }: PrefixTree, { edges, words }: Edges, address: Uint32Array): number {
  let low = 0;
  let end = words === 2 ? edges.length >>> 1 : edges.length >>> 2;
  for (let node = root, bit = 0; node !== 0; ) {
    const bits = node & 31;
    const entry = ((node >>> 5) + bitsAt(address, bit, bits)) * 2;
    bit += bits;
    low = tree[entry];
    node = tree[entry + 1];
    end = tree[entry + 2];
  }
  while (low < end) {
    const middle = (low + end) >>> 1;
    if (compareAddress(edges, middle * words, address, 0, words) <= 0) low = middle + 1;
    else end = middle;
  }
  return low;
}

/** Below 0, 0, or above: the first `words` words as one number. */
export function compareAddress(
  a: Uint32Array,
  at: number,
  b: Uint32Array,
  bt: number,
  words: number,
): number {
  for (let i = 0; i < words; i++) {
    const difference = a[at + i] - b[bt + i];
    if (difference !== 0) return difference;
  }
  return 0;
}

class TreeBuilder {
  readonly #edges: Uint32Array;
  readonly #words: number;
  readonly #start = new Uint32Array(4);
  #pool = new Uint32Array(1024);
  #used = 0;

  constructor({ edges, words }: Edges) {
    this.#edges = edges;
    this.#words = words;
  }

  entries(): Uint32Array {
    return this.#pool.subarray(0, this.#used * 2);
  }

  /** Of the addresses that begin with `bit` bits of `prefix`: edges from `from` on, `next` is the first one behind them. */
  node(prefix: Uint32Array, bit: number, from: number, next: number): number {
    const all = this.#words * 32;
    const bits = Math.min(MOST_BITS, all - bit, 32 - Math.clz32(next - from));
    const size = 2 ** bits;
    if (this.#used + size + 1 > MAX_ENTRIES) return 0;
    const offset = this.#used;
    this.#reserve(size + 1);
    for (let value = 0, edge = from; value < size; value++) {
      this.#start.set(prefix);
      setBits(this.#start, bit, bits, value);
      while (edge < next && compareAddress(this.#edges, edge * this.#words, this.#start, 0, this.#words) < 0)
        edge++;
      this.#pool[(offset + value) * 2] = edge;
    }
    this.#pool[(offset + size) * 2] = next;
    for (let value = 0; value < size; value++) {
      const first = this.#pool[(offset + value) * 2];
      const behind = this.#pool[(offset + value + 1) * 2];
      if (behind - first <= FEW) continue;
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
