import { setImmediate } from 'node:timers/promises';
import type { TrustedKeys } from './keys.ts';
import { isBundle } from './program-bundle.ts';
import { type Entry, RuleBook } from './rule-book.ts';
import type { RuleSource, SourceLine } from './source.ts';
import type { Refusal } from './statement.ts';
import { readStore, writeStore } from './store.ts';

/** Verified in one go; each takes about 0.1 ms. */
const SLICE = 64;
const REFUSED_KEPT = 32;

/** A line that did not count. */
export interface RefusedLine {
  where: string;
  id: string | null;
  refused: Refusal;
  why: string;
}

export interface SourceStatus {
  source: string;
  connected: boolean;
  /** Seconds since the source was last heard of; null: never. */
  age: number | null;
  /** Why it cannot be asked, while it cannot. */
  problem: string | null;
  /** Rules that hold, for any gate. */
  rules: number;
  accepted: number;
  /** All that were refused; the last of them are in `lines`. */
  refused: number;
  lines: RefusedLine[];
}

/** What may be made of programs that come: undefined when they are taken. */
export type OfferPrograms = (text: string) => Pick<RefusedLine, 'refused' | 'why'> | undefined;

export interface FollowerOptions {
  readonly source: RuleSource;
  readonly keys: TrustedKeys;
  /** File for what has to survive. */
  readonly store: string;
  readonly warn: (text: string) => void;
  readonly accepted: (entries: readonly Entry[]) => void;
  readonly refused: (line: RefusedLine) => void;
  /** Absent: compiled programs are left alone. */
  readonly programs?: OfferPrograms | undefined;
}

/** Follows a source for ever: verifies what it says, keeps what counts, also over restarts and while the source is away. */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #book: RuleBook;
  #heard: number | null = null;
  #connected = false;
  #problem: string | null = null;
  #accepted = 0;
  #refused = 0;
  readonly #lines = new Map<string, RefusedLine>();
  #unsaved = false;
  #closed = false;

  /** @throws NodeJS.ErrnoException when the store cannot be read */
  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#book = new RuleBook(options.keys);
    const text = readStore(options.store);
    if (text === undefined) return;
    const loaded = this.#book.load(text, Date.now() / 1000);
    if (loaded === undefined) options.warn(`${options.store} is not a store of rules: it is written anew`);
    else this.#heard = loaded.heard;
  }

  start(): void {
    this.#options.source.start({
      lines: (lines) => this.#take(lines),
      heard: () => {
        this.#heard = Date.now() / 1000;
        this.#unsaved = true;
        if (!this.#connected && this.#problem !== null)
          this.#options.warn(`rules from ${this.#options.source.name} come again`);
        this.#connected = true;
        this.#problem = null;
      },
      failed: (reason) => {
        if (this.#problem === null)
          this.#options.warn(
            `no rules from ${this.#options.source.name}: ${reason}; those that are known stay in force`,
          );
        this.#connected = false;
        this.#problem = reason;
      },
    });
  }

  async #take(lines: readonly SourceLine[]): Promise<void> {
    const accepted: Entry[] = [];
    for (const [at, { where, text }] of lines.entries()) {
      if (at % SLICE === SLICE - 1) await setImmediate();
      if (this.#closed) return;
      if (isBundle(text)) {
        const not = this.#options.programs?.(text);
        if (not !== undefined) this.#refuse({ where, id: null, ...not });
        continue;
      }
      const outcome = this.#book.offer(text, Date.now() / 1000);
      if ('accepted' in outcome) accepted.push(outcome.accepted);
      else if ('refused' in outcome)
        this.#refuse({ where, id: outcome.id ?? null, refused: outcome.refused, why: outcome.why });
    }
    if (accepted.length === 0) return;
    this.#accepted += accepted.length;
    this.#unsaved = true;
    this.save();
    this.#options.accepted(accepted);
  }

  /** What stands in a file for long is told once. */
  #refuse(line: RefusedLine): void {
    this.#refused++;
    const name = `${line.where} ${line.refused} ${line.id}`;
    const known = this.#lines.delete(name);
    this.#lines.set(name, line);
    for (const first of this.#lines.keys()) {
      if (this.#lines.size <= REFUSED_KEPT) break;
      this.#lines.delete(first);
    }
    if (!known) this.#options.refused(line);
  }

  /** The rules that hold now, for any gate. */
  entries(): Entry[] {
    return this.#book.entries(Date.now() / 1000);
  }

  status(): SourceStatus {
    return {
      source: this.#options.source.name,
      connected: this.#connected,
      age: this.#heard === null ? null : Math.max(0, Date.now() / 1000 - this.#heard),
      problem: this.#problem,
      rules: this.entries().length,
      accepted: this.#accepted,
      refused: this.#refused,
      lines: [...this.#lines.values()],
    };
  }

  /** Writes down what has changed. */
  save(): void {
    if (!this.#unsaved) return;
    try {
      writeStore(this.#options.store, this.#book.save(this.#heard));
      this.#unsaved = false;
    } catch (error) {
      this.#options.warn(`rules would not survive a restart: ${(error as Error).message}`);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#options.source.close();
    this.save();
  }
}
