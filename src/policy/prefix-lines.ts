/**
 * An index over the edges of a set of addresses, made of lines of the cache: a line holds some edges, or says which of the lines
 * below it goes on, by as many bits of the address as there are edges to tell apart. Bits that all of them share are passed
 * over. So a look-up touches one line for each step, of which there are one or two, however the networks are spread.
 * Plain numbers, for shared memory.
 */

/** Words of a line: 64 bytes. */
const LINE = 16;
/** Of a node's lines, about so much of the room for edges is used: few of them need another step. */
const FILLED = 0.4;
const MOST_BITS = 20;
/** Lines below are told by a word and the kind of line. */
const MAX_LINES = 2 ** 26;

/**
 * First word of a line: its kind, whether the addresses before and after are in the set, and from bit 8 on the number of edges
 * (leaf), or the bits that a node looks at and, from bit 16 on, where in the address they begin.
 * leaf: edges. node: first line below it; from NODE_PREFIX on the bits in front of those that it looks at.
 * far: first edge of those to search, and the one behind the last.
 */
const Kind = { leaf: 0, node: 1, far: 2 } as const;
const KIND = 3;
const IN_BEFORE = 4;
const IN_AFTER = 8;
const NODE_PREFIX = 4;

/** Addresses in order, each of the first `words` words: the others of four are zeros. Behind an odd number of them is the set. */
export interface Edges {
  readonly edges: Uint32Array;
  readonly words: 1 | 2 | 4;
}

/** Lines for these edges. Not more of them than `most`: what they do not tell apart is searched. */
export function prefixLines(edges: Edges, most = MAX_LINES): Uint32Array {
  return new LineBuilder(edges, most).build();
}

/** Whether the address, of `words` words, is in the set. */
export function isInside(lines: Uint32Array, edges: Edges, address: Uint32Array): boolean {
  const { words } = edges;
  for (let at = 0; ; ) {
    const head = lines[at];
    const kind = head & KIND;
    if (kind === Kind.leaf) {
      let inside = (head & IN_BEFORE) !== 0;
      const end = at + 1 + (head >>> 8) * words;
      for (let edge = at + 1; edge < end; edge += words) {
        if (compare(lines, edge, address, words) > 0) break;
        inside = !inside;
      }
      return inside;
    }
    if (kind === Kind.far) return (edgesUpTo(edges, lines[at + 1], lines[at + 2], address) & 1) === 1;
    const from = head >>> 16;
    const side = compareBits(address, lines, at + NODE_PREFIX, from);
    if (side !== 0) return (head & (side < 0 ? IN_BEFORE : IN_AFTER)) !== 0;
    at = (lines[at + 1] + bitsAt(address, from, (head >>> 8) & 255)) * LINE;
  }
}

/** How many edges are no higher than `address`, of those up to `end`; all up to `low` are. */
function edgesUpTo({ edges, words }: Edges, low: number, end: number, address: Uint32Array): number {
  let [first, behind] = [low, end];
  while (first < behind) {
    const middle = (first + behind) >>> 1;
    if (compare(edges, middle * words, address, words) <= 0) first = middle + 1;
    else behind = middle;
  }
  return first;
}

class LineBuilder {
  readonly #edges: Uint32Array;
  readonly #words: 1 | 2 | 4;
  /** Edges that a line has room for. */
  readonly #room: number;
  readonly #most: number;
  #lines = new Uint32Array(LINE * 1024);
  #used = 1;

  constructor({ edges, words }: Edges, most: number) {
    this.#edges = edges;
    this.#words = words;
    this.#room = Math.floor((LINE - 1) / words);
    this.#most = most;
  }

  build(): Uint32Array {
    this.#fill(0, 0, this.#edges.length / this.#words);
    return this.#lines.subarray(0, this.#used * LINE);
  }

  /** Makes `line` tell between the edges from `from` to before `behind`. */
  #fill(line: number, from: number, behind: number): void {
    const count = behind - from;
    const words = this.#words;
    const at = line * LINE;
    const sides = ((from & 1) === 1 ? IN_BEFORE : 0) | ((behind & 1) === 1 ? IN_AFTER : 0);
    if (count <= this.#room) {
      this.#lines[at] = Kind.leaf | sides | (count << 8);
      this.#lines.set(this.#edges.subarray(from * words, behind * words), at + 1);
      return;
    }
    const first = from * words;
    const shared = sharedBits(this.#edges, first, (behind - 1) * words, words);
    const wanted = Math.ceil(Math.log2(count / (this.#room * FILLED)));
    const bits = Math.min(MOST_BITS, words * 32 - shared, Math.max(1, wanted));
    const below = this.#used;
    if (below + 2 ** bits > this.#most) {
      this.#lines.set([Kind.far, from, behind], at);
      return;
    }
    this.#reserve(2 ** bits);
    this.#lines.set([Kind.node | sides | (bits << 8) | (shared << 16), below], at);
    for (let word = 0; word * 32 < shared; word++)
      this.#lines[at + NODE_PREFIX + word] = this.#edges[first + word] & upperBits(shared - word * 32);
    let edge = from;
    for (let value = 0; value < 2 ** bits; value++) {
      const begin = edge;
      while (edge < behind && bitsAt(this.#edges, shared, bits, edge * words) === value) edge++;
      this.#fill(below + value, begin, edge);
    }
  }

  #reserve(lines: number): void {
    this.#used += lines;
    if (this.#used * LINE <= this.#lines.length) return;
    const wider = new Uint32Array(Math.max(this.#lines.length * 2, this.#used * LINE));
    wider.set(this.#lines);
    this.#lines = wider;
  }
}

/** Below 0, 0, or above: the words at a[at] against `b` as one number. */
export function compare(a: Uint32Array, at: number, b: Uint32Array, words: number): number {
  for (let i = 0; i < words; i++) {
    const difference = a[at + i] - b[i];
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The upper `bits` of an address against those at prefix[at]. */
function compareBits(address: Uint32Array, prefix: Uint32Array, at: number, bits: number): number {
  for (let i = 0; i * 32 < bits; i++) {
    const difference = ((address[i] & upperBits(bits - i * 32)) >>> 0) - prefix[at + i];
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Bits at the front that two addresses have in common. */
function sharedBits(words: Uint32Array, a: number, b: number, count: number): number {
  for (let i = 0; i < count; i++)
    if (words[a + i] !== words[b + i]) return i * 32 + Math.clz32(words[a + i] ^ words[b + i]);
  return count * 32;
}

/** `bits` of them, 1 to 31, from the most significant on. */
function bitsAt(words: Uint32Array, bit: number, bits: number, at = 0): number {
  const word = at + (bit >>> 5);
  const off = bit & 31;
  if (off + bits <= 32) return (words[word] << off) >>> (32 - bits);
  return ((words[word] << off) | (words[word + 1] >>> (32 - off))) >>> (32 - bits);
}

/** The upper `bits` of a word; none for 0 and less, all for 32 and more. */
export function upperBits(bits: number): number {
  return bits <= 0 ? 0 : bits >= 32 ? -1 : -1 << (32 - bits);
}
