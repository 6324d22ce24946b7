import { RE2JS } from 're2js';
import type { FlowFacts } from '../fields.ts';
import { type Head, headHolds, headsOf } from './head.ts';
import { Letters } from './letters.ts';
import { Matcher, type Place } from './matcher.ts';
import type { Buffer, Pattern, Signature } from './signature.ts';

/** Longer names are none. */
const MAX_NAME = 255;

/** Of each pattern, next to each other: flags, offset, depth, signature, question in which it was last found, head. */
const PATTERN_WORDS = 8;
const P_OFFSET = 1;
const P_DEPTH = 2;
const P_OWNER = 3;
const P_FOUND = 4;
const P_HEAD = 5;
/** `alone`: it is all that its signature asks of names. */
const Flag = { negated: 1, startswith: 2, endswith: 4, dotprefix: 8, alone: 16 } as const;

/** Of each signature: patterns that must be found, head, question in which one was last found, how many then. */
const OWNER_WORDS = 4;
const O_HEAD = 1;
const O_ASKED = 2;
const O_HAVE = 3;
/** One was found that must not be. */
const SPOILED = 0x8000_0000;

type Compiled = { regexp: RE2JS; buffer: Buffer; negated: boolean };

/**
 * All `bypass` signatures of a rule file as one question. Those with contents are found by one pass over the name; those
 * without are asked by their heads, of which there are few. Plain numbers next to each other: a signature that is found costs
 * a few lines of memory, one that is not none.
 */
export class SignatureTable {
  readonly #sids: Float64Array;
  readonly #heads: readonly Head[];
  readonly #patterns: Uint32Array;
  readonly #owners: Uint32Array;
  readonly #expressions: ReadonlyMap<number, readonly Compiled[]>;
  readonly #matchers: Record<Buffer, Matcher | undefined>;
  /** Signatures without a content that must be there, by their heads. */
  readonly #others: readonly (readonly [head: Head, owners: readonly number[]])[];
  readonly #letters = new Letters();
  /** Signatures of which a pattern was found, and patterns that were found and stand alone; never made shorter. */
  readonly #touched: number[] = [];
  #touchedCount = 0;
  readonly #alone: number[] = [];
  #aloneCount = 0;
  #question = 0;
  /** Made once: a decision leaves nothing behind. */
  readonly #take = (pattern: number, end: number, length: number): void => this.#note(pattern, end, length);

  constructor(signatures: readonly Signature[]) {
    this.#sids = Float64Array.from(signatures, ({ sid }) => sid);
    const { heads, of } = headsOf(signatures);
    this.#heads = heads;
    const patterns = signatures.flatMap((signature, owner) =>
      signature.patterns.map((pattern) => ({ pattern, owner })),
    );
    this.#patterns = new Uint32Array(patterns.length * PATTERN_WORDS);
    for (const [i, { pattern, owner }] of patterns.entries()) {
      const depth = Math.min(0xffff_ffff, pattern.depth);
      const flags = flagsOf(pattern) | (isAlone(signatures[owner]) ? Flag.alone : 0);
      this.#patterns.set([flags, pattern.offset, depth, owner, 0, of[owner]], i * PATTERN_WORDS);
    }
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
      const texts = patterns.flatMap(({ pattern }, id) =>
        pattern.buffer === buffer
          ? [{ id, text: pattern.text, exact: !pattern.nocase, place: placeOf(pattern) }]
          : [],
      );
      return texts.length === 0 ? undefined : new Matcher(texts);
    };
    this.#matchers = { 'tls.sni': matcherOf('tls.sni'), 'http.host': matcherOf('http.host') };
  }

  get size(): number {
    return this.#sids.length;
  }

  /** The sid of a signature that this connection matches; undefined when there is none yet. */
  match(facts: FlowFacts): number | undefined {
    this.#touchedCount = 0;
    this.#aloneCount = 0;
    this.#question = (this.#question + 1) >>> 0;
    if (this.#question === 0) this.#forgetAll();
    this.#search(this.#matchers['tls.sni'], facts.serverName);
    this.#search(this.#matchers['http.host'], facts.httpHost);
    for (let i = 0; i < this.#aloneCount; i++) {
      const at = this.#alone[i];
      const patterns = this.#patterns;
      if (headHolds(this.#heads[patterns[at + P_HEAD]], facts)) return this.#sids[patterns[at + P_OWNER]];
    }
    for (let i = 0; i < this.#touchedCount; i++) {
      const owner = this.#touched[i];
      const at = owner * OWNER_WORDS;
      const owners = this.#owners;
      // Each pattern was counted once; SPOILED is above any count.
      if (owners[at + O_HAVE] !== owners[at] || owners[at] === 0) continue;
      if (headHolds(this.#heads[owners[at + O_HEAD]], facts) && this.#expressionsHold(owner, facts))
        return this.#sids[owner];
    }
    for (const [head, owners] of this.#others) {
      if (!headHolds(head, facts)) continue;
      for (const owner of owners)
        if (
          this.#owners[owner * OWNER_WORDS + O_ASKED] !== this.#question &&
          this.#expressionsHold(owner, facts)
        )
          return this.#sids[owner];
    }
    return undefined;
  }

  /** Questions are numbered anew: none of before is taken for one of now. */
  #forgetAll(): void {
    for (let at = P_FOUND; at < this.#patterns.length; at += PATTERN_WORDS) this.#patterns[at] = 0;
    for (let at = O_ASKED; at < this.#owners.length; at += OWNER_WORDS) this.#owners[at] = 0;
    this.#question = 1;
  }

  #search(matcher: Matcher | undefined, name: string | undefined): void {
    if (matcher === undefined || name === undefined || !this.#letters.take(name)) return;
    matcher.find(this.#letters, this.#take);
  }

  #note(number: number, end: number, length: number): void {
    const patterns = this.#patterns;
    const at = number * PATTERN_WORDS;
    const question = this.#question;
    if ((patterns[at] & Flag.alone) !== 0) {
      if (this.#fits(at, end, length)) this.#alone[this.#aloneCount++] = at;
      return;
    }
    if (patterns[at + P_FOUND] === question || !this.#fits(at, end, length)) return;
    patterns[at + P_FOUND] = question;
    const owner = patterns[at + P_OWNER];
    const owners = this.#owners;
    const of = owner * OWNER_WORDS;
    if (owners[of + O_ASKED] !== question) {
      owners[of + O_ASKED] = question;
      owners[of + O_HAVE] = 0;
      this.#touched[this.#touchedCount++] = owner;
    }
    if ((patterns[at] & Flag.negated) !== 0) owners[of + O_HAVE] |= SPOILED;
    else owners[of + O_HAVE]++;
  }

  /** `end` is behind a place where the pattern stands, in the name with a dot in front. */
  #fits(at: number, end: number, length: number): boolean {
    const patterns = this.#patterns;
    const flags = patterns[at];
    const from = end - length - ((flags & Flag.dotprefix) !== 0 ? 0 : 1);
    if (from < 0) return false;
    if ((flags & Flag.startswith) !== 0 && from !== 0) return false;
    if ((flags & Flag.endswith) !== 0 && end !== this.#letters.length) return false;
    return (
      from >= patterns[at + P_OFFSET] && from + length <= patterns[at + P_OFFSET] + patterns[at + P_DEPTH]
    );
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
