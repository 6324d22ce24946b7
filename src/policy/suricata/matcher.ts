/** Lengths of the part by which a text is found, longest first: a text has the longest that it is long enough for. */
const PARTS = [8, 4, 3, 2, 1];
const COUNT_BITS = 18;

/** Texts that are found by parts of one length. */
interface Parts {
  readonly length: number;
  /** Open addressing, a power of two: hash of a part, and the first of its candidates + 1 (0: free). */
  readonly slots: Uint32Array;
  /** Of each candidate: text, where in it the part stands, next candidate + 1. */
  readonly candidates: Uint32Array;
}

/**
 * Many texts at once: each is found by the part of it that the fewest others have, looked up at every place of a name. What a
 * name costs grows with its length and with what is found in it, not with how many texts there are; and look-ups at
 * different places do not wait for each other's memory. Letters are taken in lower case: who minds looks again.
 */
export class Matcher {
  readonly #texts: readonly string[];
  readonly #parts: readonly Parts[];

  /** Texts in lower case, none of them empty; each is told by its index. */
  constructor(texts: readonly string[]) {
    this.#texts = texts;
    this.#parts = PARTS.flatMap((length, i) => {
      const longest = i === 0 ? Number.POSITIVE_INFINITY : PARTS[i - 1] - 1;
      const of = [...texts.keys()].filter((n) => texts[n].length >= length && texts[n].length <= longest);
      return of.length === 0 ? [] : [partsOf(texts, of, length)];
    });
  }

  /** Tells each text that stands in `text`, which is in lower case, with the index behind it. */
  find(text: string, found: (index: number, end: number) => void): void {
    for (const parts of this.#parts) {
      const { slots, length } = parts;
      const mask = slots.length / 2 - 1;
      for (let at = 0; at + length <= text.length; at++) {
        const hash = hashOf(text, at, length);
        for (let slot = home(hash, mask); slots[slot * 2 + 1] !== 0; slot = (slot + 1) & mask) {
          if (slots[slot * 2] !== hash) continue;
          this.#tell(parts, slots[slot * 2 + 1], text, at, found);
          break;
        }
      }
    }
  }

  #tell(
    { candidates }: Parts,
    first: number,
    text: string,
    at: number,
    found: (index: number, end: number) => void,
  ): void {
    for (let next = first; next !== 0; ) {
      const candidate = (next - 1) * 3;
      const index = candidates[candidate];
      const begin = at - candidates[candidate + 1];
      if (begin >= 0 && text.startsWith(this.#texts[index], begin))
        found(index, begin + this.#texts[index].length);
      next = candidates[candidate + 2];
    }
  }
}

function partsOf(texts: readonly string[], of: readonly number[], length: number): Parts {
  // How many texts have a part, or another one that falls together with it.
  const counts = new Uint32Array(1 << COUNT_BITS);
  const eachPart = (text: string, take: (hash: number, at: number) => void): void => {
    for (let at = 0; at + length <= text.length; at++) take(hashOf(text, at, length), at);
  };
  for (const n of of) eachPart(texts[n], (hash) => counts[home(hash, counts.length - 1)]++);
  let capacity = 16;
  while (capacity < of.length * 4) capacity *= 2;
  const slots = new Uint32Array(capacity * 2);
  const candidates = new Uint32Array(of.length * 3);
  of.forEach((n, candidate) => {
    let rarest = { count: Number.POSITIVE_INFINITY, hash: 0, at: 0 };
    eachPart(texts[n], (hash, at) => {
      const count = counts[home(hash, counts.length - 1)];
      if (count < rarest.count) rarest = { count, hash, at };
    });
    let slot = home(rarest.hash, capacity - 1);
    while (slots[slot * 2 + 1] !== 0 && slots[slot * 2] !== rarest.hash) slot = (slot + 1) & (capacity - 1);
    candidates.set([n, rarest.at, slots[slot * 2 + 1]], candidate * 3);
    slots[slot * 2] = rarest.hash;
    slots[slot * 2 + 1] = candidate + 1;
  });
  return { length, slots, candidates };
}

function hashOf(text: string, at: number, length: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < length; i++) hash = Math.imul(hash ^ text.charCodeAt(at + i), 0x01000193);
  return (hash ^ (hash >>> 15)) >>> 0;
}

function home(hash: number, mask: number): number {
  return (Math.imul(hash, 0x9e3779b1) >>> 8) & mask;
}
