import { RE2JS } from 're2js';
import type { FlowFacts } from '../fields.ts';
import { type Head, headHolds, headsOf } from './head.ts';
import { Letters } from './letters.ts';
import { Matcher, type MatcherText, type Place } from './matcher.ts';
import type { Buffer, Pattern, Signature } from './signature.ts';

/** Longer names are none. */
const MAX_NAME = 255;

/**
 * What the matcher is given with each pattern, so that it lies in the line that finds it: offset and depth in 16 bits each; flags
 * and, from bit HEAD on, the head; signature; number of the pattern.
 */
const G_PLACE = 0;
const G_FLAGS = 1;
const G_OWNER = 2;
const G_PATTERN = 3;
const HEAD = 8;
const MOST_PLACE = 0xffff;
/** `alone`: it is all that its signature asks of names. */
const Flag = { negated: 1, startswith: 2, endswith: 4, dotprefix: 8, alone: 16 } as const;

/** Of each signature: patterns that must be found, head, question in which one was last found, how many then. */
const OWNER_WORDS = 4;
const O_HEAD = 1;
const O_ASKED = 2;
const O_HAVE = 3;
/** One was found that must not be. */
const SPOILED = 0x8000_0000;
const NO_LINES = new Uint32Array(0);

type Compiled = { regexp: RE2JS; buffer: Buffer; negated: boolean };

/**
 * All `bypass` signatures of a rule file as one question. Those with contents are found by one pass over the name; those
 * without are asked by their heads, of which there are few. A signature that a name finds and that asks for nothing else of names
 * costs one line of memory.
 */
export class SignatureTable {
  readonly size: number;
  readonly #heads: readonly Head[];
  readonly #owners: Uint32Array;
  /** Of each pattern, the question in which it was last found. */
  readonly #found: Uint32Array;
  readonly #expressions: ReadonlyMap<number, readonly Compiled[]>;
  readonly #matchers: Record<Buffer, Matcher | undefined>;
  /** Signatures without a content that must be there, by their heads. */
  readonly #others: readonly (readonly [head: Head, owners: readonly number[]])[];
  readonly #letters = new Letters();
  /** Signatures of which a pattern was found; never made shorter. */
  readonly #touched: number[] = [];
  #touchedCount = 0;
  #question = 0;
  #named = false;
  /** Of the present question. */
  #facts: FlowFacts | undefined;
  #lines: Uint32Array = NO_LINES;
  /** Made once: a decision leaves nothing behind. */
  readonly #take = (given: number, end: number, length: number): boolean => this.#note(given, end, length);

  constructor(signatures: readonly Signature[]) {
    this.size = signatures.length;
    const { heads, of } = headsOf(signatures);
    this.#heads = heads;
    const patterns = signatures.flatMap((signature, owner) =>
      signature.patterns.map((pattern) => ({ pattern, owner })),
    );
    this.#found = new Uint32Array(patterns.length);
    this.#owners = new Uint32Array(signatures.length * OWNER_WORDS);
    const expressions = new Map<number, Compiled[]>();
    const others = new Map<Head, number[]>();
    for (const [owner, signature] of signatures.entries()) {
      const wanted = signature.patterns.filter(({ negated }) => !negated).length;
      this.#owners.set([wanted, of[owner]], owner * OWNER_WORDS);
      if (signature.expressions.length > 0) expressions.set(owner, signature.expressions.map(compiled));
      if (wanted > 0) continue;
      const head = heads[of[owner]];
      others.set(head, [...(others.get(head) ?? []), owner]);
    }
    this.#expressions = expressions;
    this.#others = [...others];
    const matcherOf = (buffer: Buffer): Matcher | undefined => {
      const texts = patterns.flatMap(({ pattern, owner }, id): MatcherText[] => {
        if (pattern.buffer !== buffer) return [];
        const { text, nocase, offset, depth } = pattern;
        const flags = flagsOf(pattern) | (isAlone(signatures[owner]) ? Flag.alone : 0) | (of[owner] << HEAD);
        const place = (Math.min(MOST_PLACE, offset) | (Math.min(MOST_PLACE, depth) << 16)) >>> 0;
        return [{ text, exact: !nocase, place: placeOf(pattern), given: [place, flags, owner, id] }];
      });
      return texts.length === 0 ? undefined : new Matcher(texts);
    };
    this.#matchers = { 'tls.sni': matcherOf('tls.sni'), 'http.host': matcherOf('http.host') };
  }

  /** A pattern stands in the names that `matches` looked into last, whatever else its signature asks. */
  get named(): boolean {
    return this.#named;
  }

  /** Whether this connection matches one of them by what is known now. */
  matches(facts: FlowFacts): boolean {
    this.#begin(facts);
    if (this.#search(this.#matchers['tls.sni'], facts.serverName)) return true;
    if (this.#search(this.#matchers['http.host'], facts.httpHost)) return true;
    for (let i = 0; i < this.#touchedCount; i++) {
      const owner = this.#touched[i];
      const at = owner * OWNER_WORDS;
      const owners = this.#owners;
      // Each pattern was counted once; SPOILED is above any count.
      if (owners[at + O_HAVE] !== owners[at] || owners[at] === 0) continue;
      if (headHolds(this.#heads[owners[at + O_HEAD]], facts) && this.#expressionsHold(owner, facts))
        return true;
    }
    return this.#othersMatch(facts);
  }

  /** The same for one of which no name has a pattern in it: what is left are signatures without contents that must be there. */
  matchesWithoutNames(facts: FlowFacts): boolean {
    this.#begin(facts);
    return this.#othersMatch(facts);
  }

  #begin(facts: FlowFacts): void {
    this.#touchedCount = 0;
    this.#named = false;
    this.#question = (this.#question + 1) >>> 0;
    if (this.#question === 0) this.#forgetAll();
    this.#facts = facts;
  }

  #othersMatch(facts: FlowFacts): boolean {
    for (const [head, owners] of this.#others) {
      if (!headHolds(head, facts)) continue;
      for (const owner of owners)
        if (
          this.#owners[owner * OWNER_WORDS + O_ASKED] !== this.#question &&
          this.#expressionsHold(owner, facts)
        )
          return true;
    }
    return false;
  }

  /** Questions are numbered anew: none of before is taken for one of now. */
  #forgetAll(): void {
    this.#found.fill(0);
    for (let at = O_ASKED; at < this.#owners.length; at += OWNER_WORDS) this.#owners[at] = 0;
    this.#question = 1;
  }

  /** Whether a pattern was found that is all of a signature. */
  #search(matcher: Matcher | undefined, name: string | undefined): boolean {
    if (matcher === undefined || name === undefined || !this.#letters.take(name)) return false;
    this.#lines = matcher.lines;
    return matcher.find(this.#letters, this.#take);
  }

  #note(given: number, end: number, length: number): boolean {
    const lines = this.#lines;
    const flags = lines[given + G_FLAGS];
    if (!this.#fits(flags, lines[given + G_PLACE], end, length)) return false;
    this.#named = true;
    if ((flags & Flag.alone) !== 0)
      return this.#facts !== undefined && headHolds(this.#heads[flags >>> HEAD], this.#facts);
    const question = this.#question;
    const pattern = lines[given + G_PATTERN];
    if (this.#found[pattern] === question) return false;
    this.#found[pattern] = question;
    const owner = lines[given + G_OWNER];
    const owners = this.#owners;
    const of = owner * OWNER_WORDS;
    if (owners[of + O_ASKED] !== question) {
      owners[of + O_ASKED] = question;
      owners[of + O_HAVE] = 0;
      this.#touched[this.#touchedCount++] = owner;
    }
    if ((flags & Flag.negated) !== 0) owners[of + O_HAVE] |= SPOILED;
    else owners[of + O_HAVE]++;
    return false;
  }

  /** `end` is behind a place where the pattern stands, in the name with a dot in front. */
  #fits(flags: number, place: number, end: number, length: number): boolean {
    const from = end - length - ((flags & Flag.dotprefix) !== 0 ? 0 : 1);
    if (from < 0) return false;
    if ((flags & Flag.startswith) !== 0 && from !== 0) return false;
    if ((flags & Flag.endswith) !== 0 && end !== this.#letters.length) return false;
    const offset = place & MOST_PLACE;
    return from >= offset && from + length <= offset + (place >>> 16);
  }

  #expressionsHold(owner: number, facts: FlowFacts): boolean {
    const expressions = this.#expressions.get(owner);
    if (expressions === undefined) return true;
    return expressions.every(({ regexp, buffer, negated }) => {
      const name = buffer === 'tls.sni' ? facts.serverName : facts.httpHost;
      if (name === undefined || name.length > MAX_NAME) return false;
      const text = buffer === 'http.host' ? name.toLowerCase() : name;
      return regexp.matcher(text).find() !== negated;
    });
  }
}

const compiled = ({ source, flags, buffer, negated }: Signature['expressions'][number]): Compiled => ({
  regexp: RE2JS.compile(source, flags),
  buffer,
  negated,
});

const isAlone = ({ patterns, expressions }: Signature): boolean =>
  patterns.length === 1 && !patterns[0].negated && expressions.length === 0;

function flagsOf({ negated, startswith, endswith, dotprefix }: Pattern): number {
  return (
    (negated ? Flag.negated : 0) |
    (startswith ? Flag.startswith : 0) |
    (endswith ? Flag.endswith : 0) |
    (dotprefix ? Flag.dotprefix : 0)
  );
}

function placeOf({ startswith, endswith }: Pattern): Place {
  if (!endswith) return 'anywhere';
  return startswith ? 'whole' : 'tail';
}
