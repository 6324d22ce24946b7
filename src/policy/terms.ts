import type { CounterField, FlowFacts } from './fields.ts';
import type { Memory, Question } from './questions.ts';
import type { SignatureTable } from './suricata/table.ts';
import { type Condition, Truth, Watch } from './watch.ts';

/** What conditions are made of: each knows when it can become true. */

export class All implements Condition {
  readonly watch = new Watch();
  readonly #terms: readonly Condition[];

  constructor(terms: readonly Condition[]) {
    this.#terms = terms;
  }

  look(facts: FlowFacts): Truth {
    let waiting: Condition | undefined;
    for (const term of this.#terms) {
      const truth = term.look(facts);
      if (truth === Truth.never) return Truth.never;
      if (truth === Truth.later) waiting ??= term;
    }
    if (waiting === undefined) return Truth.holds;
    // It cannot hold before this one does: the others need no look until then.
    this.watch.clear();
    this.watch.join(waiting.watch);
    return Truth.later;
  }
}

export class Any implements Condition {
  readonly watch = new Watch();
  readonly #terms: readonly Condition[];

  constructor(terms: readonly Condition[]) {
    this.#terms = terms;
  }

  look(facts: FlowFacts): Truth {
    const { watch } = this;
    watch.clear();
    let some = false;
    for (const term of this.#terms) {
      const truth = term.look(facts);
      if (truth === Truth.holds) return Truth.holds;
      if (truth === Truth.never) continue;
      some = true;
      watch.join(term.watch);
    }
    return some ? Truth.later : Truth.never;
  }
}

/** What is known from the first packet on, or is learned from the content. */
export class Fact implements Condition {
  readonly watch = new Watch();
  readonly #learned: boolean;
  readonly #test: (f: FlowFacts) => boolean;
  readonly #negated: boolean;

  constructor(learned: boolean, test: (f: FlowFacts) => boolean, negated: boolean) {
    this.#learned = learned;
    this.#test = test;
    this.#negated = negated;
    this.watch.news = learned;
  }

  look(facts: FlowFacts): Truth {
    if (this.#test(facts) !== this.#negated) return Truth.holds;
    return this.#learned && facts.learning ? Truth.later : Truth.never;
  }
}

/** A question to a set, once it can be answered: nothing that follows makes it another answer. */
export class Asked implements Condition {
  readonly watch = new Watch();
  readonly #learned: boolean;
  readonly #question: Question;
  readonly #negated: boolean;

  constructor(learned: boolean, question: Question, negated: boolean) {
    this.#learned = learned;
    this.#question = question;
    this.#negated = negated;
    this.watch.news = learned;
  }

  look(facts: FlowFacts): Truth {
    const answer = this.#question.answer(facts);
    if ((answer ?? false) !== this.#negated) return Truth.holds;
    return answer === undefined && this.#learned && facts.learning ? Truth.later : Truth.never;
  }
}

export class AtLeast implements Condition {
  readonly watch = new Watch();
  readonly #field: CounterField;
  readonly #limit: number;

  constructor(field: CounterField, limit: number) {
    this.#field = field;
    this.#limit = limit;
  }

  look(facts: FlowFacts): Truth {
    const { watch } = this;
    const value = this.#field.of(facts);
    if (value >= this.#limit) return Truth.holds;
    switch (this.#field.unit) {
      case 'bytes':
        // One side cannot reach it before both together have as many more.
        watch.bytes = facts.origBytes + facts.respBytes + (this.#limit - value);
        break;
      case 'packets':
        // Since a point of time that has not come: no sooner than it comes.
        if (value < 0) {
          watch.news = true;
          return facts.learning ? Truth.later : Truth.never;
        }
        watch.news = false;
        watch.packets = facts.origPackets + facts.respPackets + (this.#limit - value);
        break;
      case 'seconds':
        watch.seconds = this.#limit;
        break;
      case 'rate':
        // The time only grows: it takes at least this many bytes.
        watch.bytes = facts.duration < 1 ? Number.POSITIVE_INFINITY : this.#limit * facts.duration;
        watch.seconds = facts.duration < 1 ? 1 : Number.POSITIVE_INFINITY;
        break;
    }
    return Truth.later;
  }
}

export class Below implements Condition {
  readonly watch = new Watch();
  readonly #field: CounterField;
  readonly #limit: number;

  constructor(field: CounterField, limit: number) {
    this.#field = field;
    this.#limit = limit;
  }

  look(facts: FlowFacts): Truth {
    if (this.#field.of(facts) < this.#limit) return Truth.holds;
    if (this.#field.unit !== 'rate') return Truth.never;
    // No sooner than when nothing more has come.
    this.watch.seconds = (facts.origBytes + facts.respBytes) / this.#limit;
    return Truth.later;
  }
}

/** One of many signatures. Names in which no pattern of theirs was found are not gone over again. */
export class Signed implements Condition {
  readonly watch = new Watch();
  readonly #table: SignatureTable;
  readonly #negated: boolean;
  /** Of each name whether patterns were found in it. */
  readonly #sni: Memory;
  readonly #host: Memory;

  constructor(table: SignatureTable, sni: Memory, host: Memory, negated: boolean) {
    this.#table = table;
    this.#sni = sni;
    this.#host = host;
    this.#negated = negated;
    this.watch.news = true;
  }

  look(facts: FlowFacts): Truth {
    if (this.#matches(facts) !== this.#negated) return Truth.holds;
    const heard = facts.origPackets > 0 && facts.respPackets > 0;
    this.watch.packets = heard ? Number.POSITIVE_INFINITY : facts.origPackets + facts.respPackets + 1;
    return facts.learning || !heard ? Truth.later : Truth.never;
  }

  #matches(facts: FlowFacts): boolean {
    const table = this.#table;
    const sni = facts.serverName !== undefined;
    const host = facts.httpHost !== undefined;
    if ((!sni || this.#sni.answer === false) && (!host || this.#host.answer === false))
      return table.matchesWithoutNames(facts);
    const matched = table.matches(facts);
    if (sni) this.#sni.note(table.named);
    if (host) this.#host.note(table.named);
    return matched;
  }
}
