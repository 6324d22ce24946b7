import type { FlowFacts } from './fields.ts';

/** Questions whose answers are remembered: callers keep them in 31 bits of a word. What is asked beyond is asked every time. */
export const MAX_QUESTIONS = 31;

/** What sets have said about one connection: a bit for each question that they have answered, and for each that they said yes to. */
export class Answers {
  asked = 0;
  yes = 0;
}

/** The questions that policies put to sets, each numbered once however many of them put it. */
export class Questions {
  /** Of the connection that is decided on now; undefined: nobody keeps them. */
  answers: Answers | undefined = undefined;
  /** A set was looked into since this was last set to false: what follows would wait for memory once more. */
  waited = false;
  /** How often conditions have taken a question. */
  taken = 0;
  readonly #known = new Map<string, Memory>();

  /** `ask` answers undefined for what cannot be told yet, and for one connection nothing else once it can. */
  of(field: string, set: string, ask: (f: FlowFacts) => boolean | undefined): Question {
    return new Question(this.remember(field, set), ask);
  }

  remember(field: string, set: string): Memory {
    this.taken++;
    const key = `${field} @${set}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const number = this.#known.size;
    const memory = new Memory(this, number < MAX_QUESTIONS ? 1 << number : 0);
    this.#known.set(key, memory);
    return memory;
  }
}

/** The answer to one question, of the connection that is decided on. */
export class Memory {
  readonly #of: Questions;
  readonly #bit: number;

  constructor(of: Questions, bit: number) {
    this.#of = of;
    this.#bit = bit;
  }

  /** Undefined: it was not asked. */
  get answer(): boolean | undefined {
    const { answers } = this.#of;
    if (answers === undefined || (answers.asked & this.#bit) === 0) return undefined;
    return (answers.yes & this.#bit) !== 0;
  }

  /** A set was asked just now. */
  note(answer: boolean): void {
    const { answers } = this.#of;
    this.#of.waited = true;
    if (answers === undefined) return;
    answers.asked |= this.#bit;
    if (answer) answers.yes |= this.#bit;
  }
}

/** Whether a field is in a set: neither changes while a connection lasts, so it is asked once for each. */
export class Question {
  readonly #memory: Memory;
  readonly #ask: (f: FlowFacts) => boolean | undefined;

  constructor(memory: Memory, ask: (f: FlowFacts) => boolean | undefined) {
    this.#memory = memory;
    this.#ask = ask;
  }

  answer(facts: FlowFacts): boolean | undefined {
    const known = this.#memory.answer;
    if (known !== undefined) return known;
    const found = this.#ask(facts);
    if (found !== undefined) this.#memory.note(found);
    return found;
  }
}
