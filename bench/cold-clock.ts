/** Nanoseconds of single decisions with cold caches, for `sluice bench policies`. */
import { Answers, type FlowFacts, type PolicySet } from '../src/policy/index.ts';
import { cpuSeconds } from './measure.ts';
import { type Case, decide } from './policy-cases.ts';

const LINE = 64;
/** One of each kind lies among this many that follow each other: known or not, IPv4 or IPv6. */
const KINDS = 4;

/** All that a sensor has just looked at when it decides: the packet was of this connection. */
function factsSum(facts: FlowFacts): number {
  const { serverName, services, resp, orig } = facts;
  let sum = resp.u8[resp.at] + orig.u8[orig.at] + services.length + facts.respPort + facts.respBytes;
  if (serverName !== undefined) for (let i = 0; i < serverName.length; i++) sum += serverName.charCodeAt(i);
  return sum + (facts.tlsEstablished ? 1 : 0) + facts.duration;
}

/** Reads that do not wait for each other, anywhere in the first `words` of a table; the next ones wait for them. */
export interface Reads {
  side: number;
  words: number;
}

function read(table: Uint32Array, from: number, steps: readonly Reads[]): number {
  let at = from;
  for (const { side, words } of steps) {
    let found = 0;
    for (let i = 0; i < side; i++) {
      at = (Math.imul(at ^ (at >>> 15), 0x2c1b3c6d) + i) >>> 0;
      found |= table[at % words];
    }
    at = (at + found) >>> 0;
  }
  return at;
}

export class ColdClock {
  readonly #walked: Uint8Array;
  readonly #answers = new Answers();
  /** Of all answers, so that none is left out. */
  sum = 0;

  readonly #compiled: number;

  /**
   * `caches`: bytes that are walked over before each decision. `compiled`: runs before anything is measured, as code that
   * has not run so often is not compiled yet.
   */
  constructor(caches: number, compiled: number) {
    this.#compiled = compiled;
    this.#walked = new Uint8Array(caches).fill(1);
  }

  /** Compiles all ways through the code that is measured, the clock's own too. */
  warmUp(cases: readonly Case[]): void {
    for (let i = 0; i < this.#compiled; i++)
      for (const one of cases) this.#timed(one.policies, one, i % one.asked.length);
  }

  /**
   * Of the first `decisions` connections of a case each one decision with everything cold; or, with `warm`, all but the
   * sets: four other connections were decided on just before, and the clock was read.
   */
  cold(one: Case, decisions: number, warm: boolean): number[] {
    const { policies, asked } = one;
    return Array.from({ length: decisions }, (_, i) => {
      this.#walk();
      if (warm) {
        // Of all kinds that are asked about: the ways of all through the code are warm.
        for (let other = 1; other <= KINDS; other++)
          this.#timed(policies, one, (decisions + i * KINDS + other) % asked.length);
        this.sum += factsSum(asked[i]);
        for (let look = 0; look < 3; look++) this.#timed(undefined, one, i);
      }
      return this.#timed(policies, one, i);
    });
  }

  /** What waiting for memory comes to, without a decision: these reads, with everything cold but the code. */
  reads(table: Uint32Array, steps: readonly Reads[], times: number): number[] {
    const seeds = Uint32Array.from({ length: times }, (_, i) => Math.imul(i + 1, 0x9e3779b1));
    const timed = (from: number) => {
      const begin = performance.now();
      this.sum += read(table, from, steps);
      return (performance.now() - begin) * 1e6;
    };
    for (let i = 0; i < this.#compiled; i++) timed(i);
    return Array.from(seeds, (seed) => {
      this.#walk();
      for (let other = 1; other <= KINDS; other++) timed(seed + other);
      return timed(seed);
    });
  }

  /** One number: the mean, caches as the decisions themselves leave them. */
  warm(one: Case, decisions: number): number {
    const { policies, asked } = one;
    const begin = cpuSeconds();
    for (let i = 0; i < decisions; i++) {
      const at = i % asked.length;
      if (policies !== undefined) this.sum += decide(policies, asked[at], this.#answersOf(one, at));
    }
    return ((cpuSeconds() - begin) * 1e9) / decisions;
  }

  /** The same each time: what a decision adds is forgotten. */
  #answersOf({ kept }: Case, at: number): Answers | undefined {
    if (kept === undefined) return undefined;
    const answers = this.#answers;
    answers.asked = kept[at].asked;
    answers.yes = kept[at].yes;
    return answers;
  }

  /** Without policies: the clock alone. */
  #timed(policies: PolicySet | undefined, one: Case, at: number): number {
    const facts = one.asked[at];
    const answers = this.#answersOf(one, at);
    const begin = performance.now();
    if (policies !== undefined) this.sum += decide(policies, facts, answers);
    return (performance.now() - begin) * 1e6;
  }

  #walk(): void {
    let sum = 0;
    for (let line = 0; line < this.#walked.length; line += LINE) sum += this.#walked[line];
    this.sum += sum;
  }
}
