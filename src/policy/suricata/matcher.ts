import { sharedWords } from '../../kernel/shared-words.ts';
import { type Letters, LONGEST, lowerCode } from './letters.ts';

/** Where in a name a text has to stand: at its end, make up all of it, or anywhere. */
export type Place = 'tail' | 'whole' | 'anywhere';

export interface MatcherText {
  /** Four words that are found with it. */
  given: readonly [number, number, number, number];
  /** 1 to 255 characters. */
  text: string;
  /** Capital letters matter. */
  exact: boolean;
  place: Place;
}

/**
 * Told with the place in `lines` of the words that were given with the text, the index in `letters` behind it, and its length.
 * True: that is enough.
 */
export type Found = (given: number, end: number, length: number) => boolean;

/** Lengths of the part by which a text is found, longest first: a text has the longest that it is long enough for. */
const PARTS = [4, 3, 2, 1];
const TAILS = [12, 8, 4, 2, 1];
const COUNT_BITS = 18;

/**
 * Of each text, a line of the cache, so that who finds it has all about it there: hash of its part; where in the text the part
 * stands, length of the text (0: free), whether capitals matter and whether the text is in the pool; next line of the same hash
 * + 1; place in the pool; what was given with it; else the text itself, a byte for each letter.
 */
const LINE = 16;
const L_ABOUT = 1;
const L_NEXT = 2;
const L_POOL = 3;
const L_GIVEN = 4;
const L_TEXT = 8;
const MOST_NEAR = (LINE - L_TEXT) * 4;
const EXACT = 0x1_0000;
const FAR = 0x2_0000;
/** Found as what may stand anywhere, and has to be at the end all the same. */
const AT_END = 0x4_0000;
/** Texts that are looked through one after the other because they end alike. */
const MOST_ALIKE = 8;
/** Lines for which a filter has one word. */
const FILTERED = 4;

/** Texts that are found by parts of one length: open addressing over the lines from `first` on. */
interface Parts {
  readonly length: number;
  readonly first: number;
  readonly mask: number;
  /**
   * First word of a filter, a word for FILTERED lines: two bits for each hash there is, of sixteen and more, so that it is small
   * enough to stay in the cache.
   */
  readonly filter: number;
}

/** What one name asks: hashes, where in it each part stands, and in which parts it is looked for. */
const MOST_ASKED = TAILS.length + 2 + PARTS.length * LONGEST;
const HASHES = new Uint32Array(MOST_ASKED);
const PLACES = new Uint32Array(MOST_ASKED);
const KINDS = new Uint32Array(MOST_ASKED);
/** Nobody looks into it: what is read early is kept, so that it is read at all. */
const READ = new Uint32Array(1);

/**
 * Many texts at once, in any case: each is found by a part of it, which is looked up in a table. What has to stand at the end
 * takes one look-up for each length of such parts; what may stand anywhere has the part that the fewest others have, looked up
 * at every place of a name. So the cost grows with the name and with what is found in it, not with how many texts there are;
 * what is read of the tables is read side by side, before anything is made of it.
 */
export class Matcher {
  /** Where `Found` finds what was given. */
  readonly lines: Uint32Array;
  readonly #letters: Uint8Array;
  /** In lower case, but where capitals matter. */
  readonly #pool: Uint16Array;
  /** All that follow. */
  readonly #parts: readonly Parts[];
  /** How many of them are tails, shortest first; then all of a name, if any is; then what stands anywhere. */
  readonly #tails: number;
  readonly #whole: boolean;

  /** `alike`: of texts that end alike more than so many are found by another part of theirs. */
  constructor(texts: readonly MatcherText[], alike = MOST_ALIKE) {
    this.#pool = new Uint16Array(texts.reduce((sum, { text }) => sum + text.length, 0));
    const places: Record<Place, Placed[]> = { tail: [], whole: [], anywhere: [] };
    let at = 0;
    for (const { text, exact, place, given } of texts) {
      const codes = Uint16Array.from(text, (_, i) => text.charCodeAt(i));
      const lower = codes.map(lowerCode);
      this.#pool.set(exact ? codes : lower, at);
      places[place].push({ given, at, lower, exact, atEnd: false });
      at += text.length;
    }
    const crowded = byLength(places.tail, TAILS, endOf).flatMap((of) => crowdOf(of, alike));
    for (const placed of crowded) placed.atEnd = true;
    places.anywhere.push(...crowded);
    const tails = byLength(
      places.tail.filter(({ atEnd }) => !atEnd),
      TAILS,
      endOf,
    );
    const whole = keyed(places.whole, 0, (lower) => [[tailHash(lower, lower.length), 0]]);
    const anywhere = byLength(places.anywhere, PARTS, (lower, part) =>
      Array.from({ length: lower.length - part + 1 }, (_, i) => [partHash(lower, i, part), i]),
    );
    const all = [...tails.toReversed(), ...(places.whole.length > 0 ? [whole] : []), ...anywhere];
    const sizes = all.map(({ distinct }) => capacityFor(distinct));
    const again = all.reduce((sum, { texts: { length }, distinct }) => sum + length - distinct, 0);
    const homes = sizes.reduce((sum, size) => sum + size, 0);
    // In front of the lines: filters are read all over, and in large pages they are in one.
    const filters = homes / FILTERED;
    const lines = Math.ceil(filters / LINE);
    this.lines = sharedWords((lines + homes + again) * LINE);
    this.#letters = new Uint8Array(this.lines.buffer, this.lines.byteOffset, this.lines.byteLength);
    let first = lines;
    let filter = 0;
    let free = lines + homes;
    this.#parts = all.map(({ length, texts: of }, i) => {
      const parts: Parts = { length, first, mask: sizes[i] - 1, filter };
      for (const text of of) free = this.#put(parts, text, free);
      first += sizes[i];
      filter += sizes[i] / FILTERED;
      return parts;
    });
    this.#tails = tails.length;
    this.#whole = places.whole.length > 0;
  }

  /** The first line that is free behind all homes, after this. */
  #put({ first, mask, filter }: Parts, { hash, offset, placed }: Keyed, free: number): number {
    const { lines } = this;
    let slot = home(hash, mask);
    let line = (first + slot) * LINE;
    while (lines[line + L_ABOUT] !== 0 && lines[line] !== hash) {
      slot = (slot + 1) & mask;
      line = (first + slot) * LINE;
    }
    let next = 0;
    let behind = free;
    if (lines[line + L_ABOUT] !== 0) {
      next = lines[line + L_NEXT];
      lines[line + L_NEXT] = ++behind;
      line = free * LINE;
    }
    const { given, at, lower, exact, atEnd } = placed;
    const text = this.#pool.subarray(at, at + lower.length);
    const far = text.length > MOST_NEAR || text.some((code) => code > 255);
    const about = offset | (lower.length << 8) | (exact ? EXACT : 0) | (far ? FAR : 0) | (atEnd ? AT_END : 0);
    lines.set([hash, about, next, at, ...given], line);
    if (!far) this.#letters.set(text, (line + L_TEXT) * 4);
    lines[filter + ((hash >>> 10) & filterMask(mask))] |= (1 << (hash & 31)) | (1 << ((hash >>> 5) & 31));
    return behind;
  }

  /** Tells each text that stands where it has to; all of a name is it with the dot, or without. True: it was enough. */
  find(letters: Letters, found: Found): boolean {
    const count = this.#ask(letters);
    for (let i = 0; i < count; i++)
      if (this.#look(this.#parts[KINDS[i]], HASHES[i], PLACES[i], letters, found)) return true;
    return false;
  }

  /** All look-ups that may find something; their lines are on the way. */
  #ask({ lower, length, words }: Letters): number {
    const { lines } = this;
    const parts = this.#parts;
    let hash = BASIS;
    let known = 0;
    let count = 0;
    for (let kind = 0; kind < this.#tails; kind++) {
      const of = parts[kind];
      const tail = of.length;
      if (tail > length) break;
      for (; known < tail && known < length - 1; known++) hash = step(hash, lower[length - 1 - known]);
      const wanted = mixed(known < tail ? step(hash, lower[0]) : hash);
      count = asked(count, lines, of, wanted, length - tail, kind);
    }
    let kind = this.#tails;
    if (this.#whole) {
      const of = parts[kind];
      for (; known < length - 1; known++) hash = step(hash, lower[length - 1 - known]);
      count = asked(count, lines, of, mixed(hash), 1, kind);
      count = asked(count, lines, of, mixed(step(hash, lower[0])), 0, kind);
      kind++;
    }
    for (; kind < parts.length; kind++) {
      const of = parts[kind];
      const part = of.length;
      for (let at = 0; at + part <= length; at++)
        count = asked(count, lines, of, hashOf(words[at], part), at, kind);
    }
    let read = 0;
    for (let i = 0; i < count; i++) {
      const { first, mask } = parts[KINDS[i]];
      read |= lines[(first + home(HASHES[i], mask)) * LINE];
    }
    READ[0] = read;
    return count;
  }

  #look({ first, mask }: Parts, hash: number, at: number, letters: Letters, found: Found): boolean {
    const { lines } = this;
    let slot = home(hash, mask);
    let line = (first + slot) * LINE;
    while (lines[line] !== hash || lines[line + L_ABOUT] === 0) {
      if (lines[line + L_ABOUT] === 0) return false;
      slot = (slot + 1) & mask;
      line = (first + slot) * LINE;
    }
    for (;;) {
      const about = lines[line + L_ABOUT];
      const begin = at - (about & 255);
      const length = (about >>> 8) & 255;
      const name = (about & EXACT) === 0 ? letters.lower : letters.exact;
      if (
        begin >= 0 &&
        begin + length <= letters.length &&
        ((about & AT_END) === 0 || begin + length === letters.length) &&
        this.#stands(line, (about & FAR) !== 0, length, name, begin) &&
        found(line + L_GIVEN, begin + length, length)
      )
        return true;
      const next = lines[line + L_NEXT];
      if (next === 0) return false;
      line = (next - 1) * LINE;
    }
  }

  #stands(line: number, far: boolean, length: number, name: Uint16Array, begin: number): boolean {
    const text = far ? this.#pool : this.#letters;
    const at = far ? this.lines[line + L_POOL] : (line + L_TEXT) * 4;
    for (let i = 0; i < length; i++) if (text[at + i] !== name[begin + i]) return false;
    return true;
  }
}

/** `at`: in the pool. */
interface Placed {
  given: MatcherText['given'];
  at: number;
  lower: Uint16Array;
  exact: boolean;
  /** Not found by its end, where it has to stand. */
  atEnd: boolean;
}

/** Hashes of the parts of a text, and where they stand in it. */
type Hashes = (lower: Uint16Array, part: number) => (readonly [hash: number, offset: number])[];

/** A text with the part by which it is found. */
interface Keyed {
  hash: number;
  offset: number;
  placed: Placed;
}

interface KeyedTexts {
  length: number;
  texts: readonly Keyed[];
  distinct: number;
}

function byLength(texts: readonly Placed[], lengths: readonly number[], hashes: Hashes): KeyedTexts[] {
  return lengths.flatMap((length, i) => {
    const longest = i === 0 ? Number.POSITIVE_INFINITY : lengths[i - 1] - 1;
    const of = texts.filter(({ lower }) => lower.length >= length && lower.length <= longest);
    return of.length === 0 ? [] : [keyed(of, length, hashes)];
  });
}

/** Each text by that of its parts that the fewest others have. */
function keyed(texts: readonly Placed[], length: number, hashes: Hashes): KeyedTexts {
  // How many texts have a part, or another one that falls together with it.
  const counts = new Uint32Array(1 << COUNT_BITS);
  const countOf = (hash: number): number => home(hash, counts.length - 1);
  const all = texts.map(({ lower }) => hashes(lower, length));
  for (const each of all) for (const [hash] of each) counts[countOf(hash)]++;
  const chosen = all.map((each, i): Keyed => {
    const [hash, offset] = each.reduce((least, one) =>
      counts[countOf(one[0])] < counts[countOf(least[0])] ? one : least,
    );
    return { hash, offset, placed: texts[i] };
  });
  return { length, texts: chosen, distinct: new Set(chosen.map(({ hash }) => hash)).size };
}

/** Those of which more than `most` have the same hash. */
function crowdOf({ texts }: KeyedTexts, most: number): Placed[] {
  const counts = new Map<number, number>();
  for (const { hash } of texts) counts.set(hash, (counts.get(hash) ?? 0) + 1);
  return texts.filter(({ hash }) => (counts.get(hash) ?? 0) > most).map(({ placed }) => placed);
}

/** A power of two, more than half of it free. */
function capacityFor(hashes: number): number {
  let capacity = 4;
  while (capacity < hashes * 2) capacity *= 2;
  return capacity;
}

/** One look-up more, if the filter has its hash. There is no branch: it would wait for the filter, each time anew. */
function asked(
  count: number,
  lines: Uint32Array,
  { filter, mask }: Parts,
  hash: number,
  at: number,
  kind: number,
): number {
  HASHES[count] = hash;
  PLACES[count] = at;
  KINDS[count] = kind;
  const word = lines[filter + ((hash >>> 10) & filterMask(mask))];
  return count + ((word >>> (hash & 31)) & (word >>> ((hash >>> 5) & 31)) & 1);
}

function filterMask(mask: number): number {
  return mask >>> 2;
}

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

const endOf: Hashes = (lower, part) => [[tailHash(lower, part), lower.length - part]];

/** Of the `part` letters from `begin` on: the same as hashOf of their word. */
function partHash(lower: Uint16Array, begin: number, part: number): number {
  let word = 0;
  for (let i = part - 1; i >= 0; i--) word = (word << 8) | (lower[begin + i] & 255);
  return hashOf(word, part);
}

/** Of `part` letters, up to four: the word that begins with them. */
function hashOf(word: number, part: number): number {
  const hash = Math.imul(word & (0xffff_ffff >>> (32 - part * 8)), 0x9e3779b1);
  const more = Math.imul(hash ^ (hash >>> 16), 0xc2b2ae35);
  return (more ^ (more >>> 13)) >>> 0;
}

function home(hash: number, mask: number): number {
  return (Math.imul(hash, 0x9e3779b1) >>> 8) & mask;
}
