import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import type { CbpfProgram } from '../ebpf/index.ts';
import { type BpfMap, type BpfObject, type BpfProgram, loadObject, packageRoot } from '../kernel/index.ts';
import { loadRuleProgram } from './load-programs.ts';
import { compileRules, type RuleProgramOptions } from './program/compile-rules.ts';
import { addCounts, NO_COUNTS, type RuleCounts, RuleRows, rowText } from './rows.ts';
import type { Rule } from './spec.ts';
import { tryRules } from './try-rules.ts';

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

/** A rule and what its expression compiles to. */
export interface CompiledRule {
  readonly rule: Rule;
  readonly program: CbpfProgram;
  /** In scope here, and switched on. */
  readonly on: boolean;
}

export interface AppliedRules {
  readonly programs: number;
  readonly instructions: number;
  readonly tailCalls: number;
  readonly milliseconds: number;
}

interface Live {
  readonly row: number;
  readonly text: string;
  /** Of rows that it had before. */
  readonly before: RuleCounts;
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
  /** Rows that the last set but one named: free from the next set on. */
  #retired: number[] = [];
  readonly #free: number[] = [];
  #nextRow = 0;

  constructor(options: LiveRulesOptions) {
    const { rows = 16_384, buckets = 65_536, samples = 1 << 20 } = options;
    this.#options = options;
    this.#object = loadObject(join(packageRoot(), 'build', 'bpf', 'rules.bpf.o'), {
      reuseMaps: { rules: options.rules, scratch: options.scratch },
      mapSizes: { rule_rows: rows, rule_counts: rows, rule_buckets: buckets, rule_samples: samples },
    });
    this.#rows = new RuleRows(this.#object.map('rule_rows'), this.#object.map('rule_counts'));
    this.#setSlot(RULE_SLOTS.act, this.#object.program('sluice_rules_act'));
  }

  /** Samples (struct sl_sample and the bytes of the packet). */
  get samples(): BpfMap {
    return this.#object.map('rule_samples');
  }

  /** Puts these rules in the place of those before. Throws RULE, FILTER_UNSUPPORTED or LIMIT; then nothing has changed. */
  async apply(rules: readonly CompiledRule[]): Promise<AppliedRules> {
    const began = performance.now();
    tryRules(rules, this.#options.frameLength);
    const before = this.#counted();
    const next = new Map<string, Live>();
    const taken: number[] = [];
    const programs: BpfProgram[] = [];
    try {
      const off = new Set<number>();
      const expressions = rules.map(({ rule, program, on }, number) => {
        const live = this.#rowFor(rule, number, before, taken);
        next.set(rule.id, live);
        if (!on) off.add(live.row);
        return { row: live.row, program };
      });
      const names = new Map([...next].map(([id, { row }]) => [row, id]));
      const first = RULE_SLOTS.halves[this.#half];
      const compiled = compileRules(expressions, this.#programOptions(first));
      for (const program of compiled.programs) {
        programs.push(loadRuleProgram(program, off, (row) => names.get(row) ?? String(row)));
      }
      for (const [index, { slot }] of compiled.programs.entries()) {
        if (slot !== undefined) this.#setSlot(slot, programs[index]);
      }
      // The last of them goes to the others, or there is none.
      this.#options.enter(programs.at(-1));
      await this.#replace(next, programs);
      return {
        programs: programs.length,
        instructions: compiled.programs.reduce((sum, { instructions }) => sum + instructions.length, 0),
        tailCalls: compiled.calls,
        milliseconds: performance.now() - began,
      };
    } catch (error) {
      for (const program of programs) program.close();
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
    this.#free.push(...this.#retired);
    this.#retired = gone;
  }

  /** What each rule has seen since it was added; a changed rule goes on counting. */
  counts(id: string): RuleCounts | undefined {
    const live = this.#live.get(id);
    return live && addCounts(live.before, this.#rows.counts(live.row));
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
  close(): void {
    this.#options.enter(undefined);
    for (const first of RULE_SLOTS.halves) {
      for (let slot = first; slot < first + RULE_SLOTS.perHalf; slot++) this.#clearSlot(slot);
    }
    this.#clearSlot(RULE_SLOTS.act);
    for (const program of this.#programs) program.close();
    this.#object.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #counted(): Map<string, Live> {
    return new Map(
      [...this.#live].map(([id, live]) => [id, { ...live, before: this.counts(id) ?? NO_COUNTS }]),
    );
  }

  #rowFor(rule: Rule, number: number, before: ReadonlyMap<string, Live>, taken: number[]): Live {
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
    this.#rows.write(row, rule, rule.expires === null ? 0 : Math.max(1, Math.ceil(seconds)), number);
    return { row, text, before: before.get(rule.id)?.before ?? NO_COUNTS };
  }

  #programOptions(first: number): RuleProgramOptions {
    const { rules, scratch, frameLength } = this.#options;
    return {
      maps: { rules: rules.fd, scratch: scratch.fd, matches: this.#object.map('rule_matches').fd },
      slots: { shunt: RULE_SLOTS.shunt, act: RULE_SLOTS.act, first, count: RULE_SLOTS.perHalf },
      frameLength,
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
