import { RE2JS } from 're2js';
import type { FactAddress, FlowFacts } from '../fields.ts';
import { hasAddress } from '../prefix-set.ts';
import { Matcher } from './matcher.ts';
import type { AddressSet, Buffer, Pattern, PortSet, Signature } from './signature.ts';

/** Longer names are none. */
const MAX_NAME = 255;

interface Compiled {
  signature: Signature;
  expressions: readonly { regexp: RE2JS; buffer: Buffer; negated: boolean }[];
  /** Patterns that must be found. */
  wanted: number;
}

/**
 * All `bypass` signatures of a rule file as one question. Those with contents are found by one pass over the name; those
 * without, by services and header alone, are asked one after the other.
 */
export class SignatureTable {
  readonly #all: readonly Compiled[];
  /** By pattern: the signature that it belongs to. */
  readonly #patterns: readonly { pattern: Pattern; owner: number }[];
  readonly #matchers: Record<Buffer, { matcher: Matcher; patterns: readonly number[] }>;
  /** Signatures without a content that must be there. */
  readonly #others: readonly number[];
  /** Of the connection that is asked about: patterns that were found, and how many by signature; NaN when one must not be. */
  readonly #found = new Set<number>();
  readonly #hits = new Map<number, number>();
  #numbers: readonly number[] = [];
  #dotted = '';
  /** Made once: a decision leaves little behind. */
  readonly #take = (index: number, end: number): void => this.#note(this.#numbers[index], end);

  constructor(signatures: readonly Signature[]) {
    this.#all = signatures.map((signature) => ({
      signature,
      expressions: signature.expressions.map(({ source, flags, buffer, negated }) => ({
        regexp: RE2JS.compile(source, flags),
        buffer,
        negated,
      })),
      wanted: signature.patterns.filter(({ negated }) => !negated).length,
    }));
    this.#patterns = signatures.flatMap(({ patterns }, owner) =>
      patterns.map((pattern) => ({ pattern, owner })),
    );
    const of = (buffer: Buffer) => {
      const patterns = this.#patterns.flatMap(({ pattern }, i) => (pattern.buffer === buffer ? [i] : []));
      return {
        matcher: new Matcher(patterns.map((i) => this.#patterns[i].pattern.text.toLowerCase())),
        patterns,
      };
    };
    this.#matchers = { 'tls.sni': of('tls.sni'), 'http.host': of('http.host') };
    this.#others = this.#all.flatMap(({ wanted }, i) => (wanted === 0 ? [i] : []));
  }

  get size(): number {
    return this.#all.length;
  }

  /** The sid of a signature that this connection matches; undefined when there is none yet. */
  match(facts: FlowFacts): number | undefined {
    this.#found.clear();
    this.#hits.clear();
    this.#search('tls.sni', facts.serverName);
    this.#search('http.host', facts.httpHost);
    for (const [owner, have] of this.#hits)
      if (this.#holds(owner, have, facts)) return this.#all[owner].signature.sid;
    for (const owner of this.#others)
      if (!this.#hits.has(owner) && this.#holds(owner, 0, facts)) return this.#all[owner].signature.sid;
    return undefined;
  }

  #search(buffer: Buffer, name: string | undefined): void {
    if (name === undefined || name.length > MAX_NAME) return;
    const { matcher, patterns } = this.#matchers[buffer];
    if (patterns.length === 0) return;
    // With the dot that dotprefix asks for; the others are told the place without it.
    this.#dotted = `.${name}`;
    this.#numbers = patterns;
    matcher.find(this.#dotted.toLowerCase(), this.#take);
  }

  #note(number: number, end: number): void {
    const { pattern, owner } = this.#patterns[number];
    if (this.#found.has(number) || !fits(pattern, this.#dotted, end)) return;
    this.#found.add(number);
    const more = pattern.negated ? Number.NaN : 1;
    this.#hits.set(owner, (this.#hits.get(owner) ?? 0) + more);
  }

  #holds(owner: number, have: number, facts: FlowFacts): boolean {
    const { signature, expressions, wanted } = this.#all[owner];
    if (!(have >= wanted) || !headerHolds(signature, facts)) return false;
    return expressions.every(({ regexp, buffer, negated }) => {
      const name = buffer === 'tls.sni' ? facts.serverName : facts.httpHost;
      if (name === undefined || name.length > MAX_NAME) return false;
      const text = buffer === 'http.host' ? name.toLowerCase() : name;
      return regexp.matcher(text).find() !== negated;
    });
  }
}

/** `end` is behind a place where the pattern stands in lower case, in the name with a dot in front. */
function fits(pattern: Pattern, dotted: string, end: number): boolean {
  const begin = end - pattern.text.length;
  const shift = pattern.dotprefix ? 0 : 1;
  if (begin < shift) return false;
  if (!pattern.nocase && dotted.slice(begin, end) !== pattern.text) return false;
  const at = begin - shift;
  if (pattern.startswith && at !== 0) return false;
  if (pattern.endswith && end !== dotted.length) return false;
  return at >= pattern.offset && at + pattern.text.length <= pattern.offset + pattern.depth;
}

function headerHolds(s: Signature, facts: FlowFacts): boolean {
  if (s.protocol !== undefined && s.protocol !== facts.protocol) return false;
  const { services } = facts;
  if (s.services.some((name) => !services.includes(name))) return false;
  if (s.notServices.some((name) => services.includes(name))) return false;
  if (s.established && (facts.origPackets === 0 || facts.respPackets === 0)) return false;
  if (s.from !== 'resp' && sidesHold(s, facts.orig, facts.origPort, facts.resp, facts.respPort)) return true;
  return s.from !== 'orig' && sidesHold(s, facts.resp, facts.respPort, facts.orig, facts.origPort);
}

function sidesHold(
  s: Signature,
  source: FactAddress,
  sourcePort: number,
  target: FactAddress,
  targetPort: number,
): boolean {
  return (
    addressHolds(s.source, source) &&
    portHolds(s.sourcePort, sourcePort) &&
    addressHolds(s.target, target) &&
    portHolds(s.targetPort, targetPort)
  );
}

function addressHolds(set: AddressSet | undefined, { u8, at, bytes }: FactAddress): boolean {
  return set === undefined || hasAddress(set.table, u8, at, bytes) !== set.negated;
}

function portHolds(set: PortSet | undefined, port: number): boolean {
  return set === undefined || set.ranges.some(([from, to]) => port >= from && port <= to) !== set.negated;
}
