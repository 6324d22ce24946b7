import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { type BpfMap, type BpfObject, type BpfProgram, loadObject, packageRoot } from '../kernel/index.ts';
import type { PlacedRule } from './make-programs.ts';
import type { RuleProgramOptions } from './program/compile-rules.ts';
import type { RuleCost } from './program/cost.ts';
import { ProgramMaker, type TakenSet } from './program-maker.ts';
import { addCounts, NO_COUNTS, type RuleCounts, RuleRows, rowText } from './rows.ts';
import type { Rule } from './spec.ts';

/** The map of what each rule has seen. */
export const RULE_COUNTS = 'rule_counts';

/** Slots of the gate's map `rules` (bpf/gate.h, bpf/rules.h). */
export const RULE_SLOTS = { shunt: 1, act: 4, halves: [8, 36], perHalf: 28 } as const;

export interface LiveRulesOptions {
  /** The gate's maps; they stay the caller's. */
  readonly rules: BpfMap;
  readonly scratch: BpfMap;
  /** Puts a program where packets come in, in place of the one before; undefined: packets meet no rules. */
  readonly enter: (program: BpfProgram | undefined) => void;
  /** Offset of the frame's length in the scratch. */
  readonly frameLength: number;
  /** As of the gate (Gate.frags). Default true. */
  readonly frags?: boolean;
  /** Rows, single sources and targets of rate limits, bytes of samples that wait (a power of two). */
  readonly rows?: number;
  readonly buckets?: number;
  readonly samples?: number;
  /** How the programs are made: for tests and measurements. */
  readonly programs?: Pick<RuleProgramOptions, 'chain' | 'programSize'>;
  /** The monotonic clock, in seconds. */
  readonly now: () => number;
  /** Returns once no packet is in a program any more that was there before the call. */
  readonly grace: () => Promise<void>;
}

/** A rule, and whether it is in scope here and switched on. */
export interface PlacedHere {
  readonly rule: Rule;
  readonly on: boolean;
}

export interface AppliedRules extends RuleCost {
  /** Rules whose programs were taken as a desk has compiled them (LiveRules.take), of all; the others were compiled here. */
  readonly taken: number;
  /** Why none were, although a desk's programs are there. */
  readonly whyNot: string | null;
  /** From the wish to the last packet in the programs before. */
  readonly milliseconds: number;
}

interface Live {
  readonly row: number;
  readonly text: string;
  /** Of rows that it had before. */
  before: RuleCounts;
  /** The row that it had before this one, as long as packets may still be in the programs that name it. */
  earlier: number | undefined;
}

/**
 * The rules of one gate. A new set is compiled, verified and tried before it takes the place of the old one, from one
 * packet to the next; a set that fails changes nothing.
 */
export class LiveRules {
  readonly #options: LiveRulesOptions;
  readonly #object: BpfObject;
  readonly #rows: RuleRows;
  #live = new Map<string, Live>();
  #programs: BpfProgram[] = [];
  #half = 0;
  readonly #free: number[] = [];
  #nextRow = 0;
  readonly #maker = new ProgramMaker();
  #taken: TakenSet | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(options: LiveRulesOptions) {
    const { rows = 16_384, buckets = 65_536, samples = 1 << 20, frags = true } = options;
    this.#options = options;
    this.#object = loadObject(join(packageRoot(), 'build', 'bpf', 'rules.bpf.o'), {
      reuseMaps: { rules: options.rules, scratch: options.scratch },
      mapSizes: { rule_rows: rows, rule_counts: rows, rule_buckets: buckets, rule_samples: samples },
      frags,
    });
    this.#rows = new RuleRows(this.#object.map('rule_rows'), this.#object.map(RULE_COUNTS));
    this.#setSlot(RULE_SLOTS.act, this.#object.program('sluice_rules_act'));
  }

  /** Samples (struct sl_sample and the bytes of the packet). */
  get samples(): BpfMap {
    return this.#object.map('rule_samples');
  }

  /** From the next set on rules that are in these programs are not compiled here. */
  take(set: TakenSet): void {
    this.#taken = set;
  }

  /**
   * Puts these rules in the place of those before. One after the other: a call waits for the one before. Throws RULE,
   * FILTER_UNSUPPORTED or LIMIT; then nothing has changed.
   */
  apply(rules: readonly PlacedHere[]): Promise<AppliedRules> {
    const applied = this.#last.then(() => this.#apply(rules));
    this.#last = applied.then(
      () => undefined,
      () => undefined,
    );
    return applied;
  }

  async #apply(rules: readonly PlacedHere[]): Promise<AppliedRules> {
    const began = performance.now();
    const next = new Map<string, Live>();
    const taken: number[] = [];
    try {
      const placed = rules.map(({ rule, on }): PlacedRule => {
        const live = this.#rowFor(rule, taken);
        next.set(rule.id, live);
        const { id, expr, lang, tests } = rule;
        return { rule: { id, expr, lang, tests }, row: live.row, off: !on };
      });
      const options = this.#programOptions(RULE_SLOTS.halves[this.#half]);
      const {
        programs,
        cost,
        taken: fromDesk,
        whyNot,
      } = await this.#maker.make(placed, options, this.#taken);
      try {
        for (const { slot, program } of programs) if (slot !== undefined) this.#setSlot(slot, program);
        // The last of them goes to the others, or there is none.
        this.#options.enter(programs.at(-1)?.program);
      } catch (error) {
        for (const { program } of programs) program.close();
        throw error;
      }
      await this.#replace(
        next,
        programs.map(({ program }) => program),
      );
      return { ...cost, taken: fromDesk, whyNot, milliseconds: performance.now() - began };
    } catch (error) {
      this.#free.push(...taken);
      throw error;
    }
  }

  /** The old set is gone once no packet is in it; then its rows are free. */
  async #replace(next: Map<string, Live>, programs: BpfProgram[]): Promise<void> {
    const kept = new Set([...next.values()].map(({ row }) => row));
    const gone = [...this.#live.values()].map(({ row }) => row).filter((row) => !kept.has(row));
    for (const program of this.#programs) program.close();
    this.#programs = programs;
    this.#live = next;
    this.#half = 1 - this.#half;
    await this.#options.grace();
    for (const live of next.values()) {
      if (live.earlier === undefined) continue;
      live.before = addCounts(live.before, this.#rows.counts(live.earlier));
      live.earlier = undefined;
    }
    this.#free.push(...gone);
  }

  /** What each rule has seen since it was added; a changed rule goes on counting. */
  counts(id: string): RuleCounts | undefined {
    const live = this.#live.get(id);
    if (live === undefined) return undefined;
    const now = addCounts(live.before, this.#rows.counts(live.row));
    return live.earlier === undefined ? now : addCounts(now, this.#rows.counts(live.earlier));
  }

  /** The number of a rule in samples and traces, until it changes. */
  numberOf(id: string): number | undefined {
    return this.#live.get(id)?.row;
  }

  /** Adds what a rule had seen elsewhere: with a daemon that has ended, say. */
  inherit(id: string, counts: RuleCounts): void {
    const live = this.#live.get(id);
    if (live !== undefined) live.before = addCounts(live.before, counts);
  }

  /** For whoever comes after a sudden end: the map of counts, and of each rule its row there and what came before. */
  get legacy(): { counts: BpfMap; rules: { id: string; row: number; before: RuleCounts }[] } {
    const rules = [...this.#live].map(([id, { row, before }]) => ({ id, row, before }));
    return { counts: this.#object.map(RULE_COUNTS), rules };
  }

  /** Instructions of the live programs as the kernel has translated them. */
  translated(): number {
    return this.#programs.reduce((sum, program) => sum + (program.info(true).xlated?.length ?? 0) / 8, 0);
  }

  /** Their machine code. */
  jitedBytes(): number {
    return this.#programs.reduce((sum, program) => sum + program.info().jitedBytes, 0);
  }

  /** Switches a rule on or off from this packet to the next, without a new program. */
  setOff(id: string, off: boolean): void {
    const live = this.#live.get(id);
    if (live === undefined) throw new SluiceError('NOT_FOUND', `there is no rule ${id}`);
    this.#rows.setOff(live.row, off);
  }

  /** Takes all rules out of the gate. */
  async close(): Promise<void> {
    this.#options.enter(undefined);
    for (const first of RULE_SLOTS.halves) {
      for (let slot = first; slot < first + RULE_SLOTS.perHalf; slot++) this.#clearSlot(slot);
    }
    this.#clearSlot(RULE_SLOTS.act);
    for (const program of this.#programs) program.close();
    this.#object.close();
    await this.#maker.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #rowFor(rule: Rule, taken: number[]): Live {
    const text = rowText(rule);
    const old = this.#live.get(rule.id);
    if (old?.text === text) return old;
    const row = this.#free.pop() ?? this.#nextRow;
    if (row === this.#nextRow) {
      if (row >= this.#rows.capacity)
        throw new SluiceError('LIMIT', `there is room for ${this.#rows.capacity} rules`);
      this.#nextRow++;
    }
    taken.push(row);
    const seconds = rule.expires === null ? 0 : this.#options.now() + rule.expires - Date.now() / 1000;
    this.#rows.write(row, rule, rule.expires === null ? 0 : Math.max(1, Math.ceil(seconds)));
    return { row, text, before: old?.before ?? NO_COUNTS, earlier: old?.row };
  }

  #programOptions(first: number): RuleProgramOptions {
    const { rules, scratch, frameLength, frags = true } = this.#options;
    return {
      maps: { rules: rules.fd, scratch: scratch.fd, matches: this.#object.map('rule_matches').fd },
      slots: { shunt: RULE_SLOTS.shunt, act: RULE_SLOTS.act, first, count: RULE_SLOTS.perHalf },
      frameLength,
      frags,
      ...this.#options.programs,
    };
  }

  #setSlot(slot: number, program: BpfProgram): void {
    this.#options.rules.set(word(slot), word(program.fd));
  }

  #clearSlot(slot: number): void {
    this.#options.rules.delete(word(slot));
  }
}

function word(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array([value]).buffer);
}
