import { sharedWords } from '../../kernel/shared-words.ts';
import { type Letters, lowerCode } from './letters.ts';

/** Where in a name a text has to stand: at its end, make up all of it, or anywhere. */
export type Place = 'tail' | 'whole' | 'anywhere';

export interface MatcherText {
  /** Told when it is found. */
  id: number;
  /** 1 to 255 characters. */
  text: string;
  /** Capital letters matter. */
  exact: boolean;
  place: Place;
}

/** Told with the index in `letters` behind the text, and its length. */
export type Found = (id: number, end: number, length: number) => void;

/** Lengths of the part by which a text is found, longest first: a text has the longest that it is long enough for. */
const PARTS = [8, 4, 3, 2, 1];
const TAILS = [12, 8, 4, 2, 1];
const COUNT_BITS = 18;

/** Texts that are found by parts of one length. */
interface Parts {
  readonly length: number;
  /** A bit for each hash that is in `slots`, of sixteen and more for each text: small enough to stay in the cache. */
  readonly filter: Uint32Array;
  /** Open addressing, a power of two: hash of a part, and the first of its candidates + 1 (0: free). */
  readonly slots: Uint32Array;
}

/**
 * Of each candidate, a line of the cache: id; where in the text the part stands, length of the text, whether capitals matter
 * and whether the text is in the pool; next + 1; place in the pool; else the text itself, a byte for each letter.
 */
const CANDIDATE_WORDS = 16;
const TEXT_WORD = 4;
const MOST_NEAR = (CANDIDATE_WORDS - TEXT_WORD) * 4;
const EXACT = 0x1_0000;
const FAR = 0x2_0000;

/**
 * Many texts at once, in any case: each is found by a part of it, which is looked up in a table. What has to stand at the end
 * takes one look-up for each length of such parts; what may stand anywhere has the part that the fewest others have, looked up
 * at every place of a name. So the cost grows with the name and with what is found in it, not with how many texts there are.
 */
export class Matcher {
  /** In lower case, but where capitals matter. */
  readonly #pool: Uint16Array;
  readonly #candidates: Uint32Array;
  readonly #near: Uint8Array;
  #used = 0;
  /** Shortest first. */
  readonly #tails: readonly Parts[];
  readonly #whole: Parts | undefined;
  readonly #anywhere: readonly Parts[];

  constructor(texts: readonly MatcherText[]) {
    this.#pool = new Uint16Array(texts.reduce((sum, { text }) => sum + text.length, 0));
    const candidates = sharedWords(texts.length * CANDIDATE_WORDS);
    this.#candidates = candidates;
    this.#near = new Uint8Array(candidates.buffer, candidates.byteOffset, candidates.byteLength);
    const places: Record<Place, Placed[]> = { tail: [], whole: [], anywhere: [] };
    let at = 0;
    for (const { id, text, exact, place } of texts) {
      const codes = Uint16Array.from(text, (_, i) => text.charCodeAt(i));
      const lower = codes.map(lowerCode);
      this.#pool.set(exact ? codes : lower, at);
      places[place].push({ id, at, lower, exact });
      at += text.length;
    }
    this.#tails = this.#byLength(places.tail, TAILS, (lower, part) => [
      [tailHash(lower, part), lower.length - part],
    ]).toReversed();
    this.#anywhere = this.#byLength(places.anywhere, PARTS, (lower, part) =>
      Array.from({ length: lower.length - part + 1 }, (_, i) => [partHash(lower, i, part), i]),
    );
    if (places.whole.length > 0)
      this.#whole = this.#parts(places.whole, 0, (lower) => [[tailHash(lower, lower.length), 0]]);
  }

  /** Tells each text that stands where it has to; all of a name is it with the dot, or without. */
  find(letters: Letters, found: Found): void {
    const { lower, length, words } = letters;
    let hash = BASIS;
    let known = 0;
    for (const tail of this.#tails) {
      if (tail.length > length) break;
      for (; known < tail.length; known++) hash = step(hash, lower[length - 1 - known]);
      this.#look(tail, mixed(hash), length - tail.length, letters, found);
    }
    if (this.#whole !== undefined) {
      let all = BASIS;
      for (let i = length - 1; i > 0; i--) all = step(all, lower[i]);
      this.#look(this.#whole, mixed(all), 1, letters, found);
      this.#look(this.#whole, mixed(step(all, lower[0])), 0, letters, found);
    }
    for (const parts of this.#anywhere) {
      const part = parts.length;
      for (let at = 0; at + part <= length; at++)
        this.#look(parts, hashOf(words[at], words[at + 4], part), at, letters, found);
    }
  }

  #look({ filter, slots }: Parts, hash: number, at: number, letters: Letters, found: Found): void {
    if ((filter[(hash >>> 5) & (filter.length - 1)] & (1 << (hash & 31))) === 0) return;
    const mask = (slots.length >>> 1) - 1;
    let slot = home(hash, mask);
    while (slots[slot * 2 + 1] !== 0 && slots[slot * 2] !== hash) slot = (slot + 1) & mask;
    const candidates = this.#candidates;
    for (let next = slots[slot * 2 + 1]; next !== 0; ) {
      const candidate = (next - 1) * CANDIDATE_WORDS;
      const about = candidates[candidate + 1];
      const begin = at - (about & 255);
      const length = (about >>> 8) & 255;
      const name = (about & EXACT) === 0 ? letters.lower : letters.exact;
      if (
        begin >= 0 &&
        begin + length <= letters.length &&
        this.#stands(candidate, (about & FAR) !== 0, length, name, begin)
      )
        found(candidates[candidate], begin + length, length);
      next = candidates[candidate + 2];
    }
  }

  #stands(candidate: number, far: boolean, length: number, name: Uint16Array, begin: number): boolean {
    const text = far ? this.#pool : this.#near;
    const at = far ? this.#candidates[candidate + 3] : (candidate + TEXT_WORD) * 4;
    for (let i = 0; i < length; i++) if (text[at + i] !== name[begin + i]) return false;
    return true;
  }

  #byLength(texts: readonly Placed[], lengths: readonly number[], hashes: Hashes): Parts[] {
    return lengths.flatMap((length, i) => {
      const longest = i === 0 ? Number.POSITIVE_INFINITY : lengths[i - 1] - 1;
      const of = texts.filter(({ lower }) => lower.length >= length && lower.length <= longest);
      return of.length === 0 ? [] : [this.#parts(of, length, hashes)];
    });
  }

  #parts(texts: readonly Placed[], length: number, hashes: Hashes): Parts {
    // How many texts have a part, or another one that falls together with it.
    const counts = new Uint32Array(1 << COUNT_BITS);
    const all = texts.map(({ lower }) => hashes(lower, length));
    for (const each of all) for (const [hash] of each) counts[home(hash, counts.length - 1)]++;
    let capacity = 16;
    while (capacity < texts.length * 4) capacity *= 2;
    const slots = new Uint32Array(capacity * 2);
    const filter = new Uint32Array(capacity / 8);
    for (const [i, { id, at, lower, exact }] of texts.entries()) {
      let least = Number.POSITIVE_INFINITY;
      let [hash, offset] = [0, 0];
      for (const [one, place] of all[i]) {
        const count = counts[home(one, counts.length - 1)];
        if (count >= least) continue;
        least = count;
        hash = one;
        offset = place;
      }
      let slot = home(hash, capacity - 1);
      while (slots[slot * 2 + 1] !== 0 && slots[slot * 2] !== hash) slot = (slot + 1) & (capacity - 1);
      const text = this.#pool.subarray(at, at + lower.length);
      const far = text.length > MOST_NEAR || text.some((code) => code > 255);
      const about = offset | (lower.length << 8) | (exact ? EXACT : 0) | (far ? FAR : 0);
      const candidate = this.#used * CANDIDATE_WORDS;
      this.#candidates.set([id, about, slots[slot * 2 + 1], at], candidate);
      if (!far) this.#near.set(text, (candidate + TEXT_WORD) * 4);
      slots[slot * 2] = hash;
      slots[slot * 2 + 1] = ++this.#used;
      filter[(hash >>> 5) & (filter.length - 1)] |= 1 << (hash & 31);
    }
    return { length, slots, filter };
  }
}

/** `at`: in the pool. */
interface Placed {
  id: number;
  at: number;
  lower: Uint16Array;
  exact: boolean;
}

/** Hashes of the parts of a text, and where they stand in it. */
type Hashes = (lower: Uint16Array, part: number) => (readonly [hash: number, offset: number])[];

const BASIS = 0x811c9dc5;

function step(hash: number, code: number): number {
  return Math.imul(hash ^ code, 0x01000193);
}

function mixed(hash: number): number {
  return (hash ^ (hash >>> 15)) >>> 0;
}

/** Of the last `part` letters, the last one first. */
function tailHash(lower: Uint16Array, part: number): number {
  let hash = BASIS;
  for (let i = 1; i <= part; i++) hash = step(hash, lower[lower.length - i]);
  return mixed(hash);
}

/** Of the `part` letters from `begin` on: the same as hashOf of their words. */
function partHash(lower: Uint16Array, begin: number, part: number): number {
  const word = (from: number): number => {
    let value = 0;
    for (let i = Math.min(3, part - 1 - from); i >= 0; i--)
      value = (value << 8) | (lower[begin + from + i] & 255);
    return value;
  };
  return hashOf(word(0), part === 8 ? word(4) : 0, part);
}

/** Of `part` letters: the word that begins with them and, of eight, the next one. */
function hashOf(first: number, second: number, part: number): number {
  const low = part >= 4 ? first : first & ((1 << (part * 8)) - 1);
  const hash = Math.imul(low, 0x9e3779b1) ^ (part === 8 ? Math.imul(second, 0x85ebca6b) : 0);
  const more = Math.imul(hash ^ (hash >>> 16), 0xc2b2ae35);
  return (more ^ (more >>> 13)) >>> 0;
}

function home(hash: number, mask: number): number {
  return (Math.imul(hash, 0x9e3779b1) >>> 8) & mask;
}
