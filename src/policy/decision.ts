import { Budget } from './budget.ts';
import { compileCondition, type PolicySets } from './condition.ts';
import type { FlowFacts } from './fields.ts';
import { type Answers, Questions } from './questions.ts';
import { parseSchedule, type Schedule, untilOpen } from './schedule.ts';
import type { PolicyAction, PolicySpec } from './spec.ts';
import { type Condition, Truth, Watch } from './watch.ts';

/** Nothing holds now: `PolicySet.watch` says when to look again. */
export const LATER = -1;
/** No policy can hold for this connection any more. */
export const SETTLED = -2;

/** What happens beside the decision, each at most once for a connection and policy. */
export interface PolicyEvents {
  /** The policy holds, but only counts or logs. */
  noted(index: number): void;
  /** It holds, and did not take the connection. */
  spared(index: number, why: SparedWhy): void;
}

/** A veto, a hold, a share below 1, a budget that is used up. */
export const SPARED = ['never', 'hold', 'share', 'budget'] as const;
export type SparedWhy = (typeof SPARED)[number];

interface Compiled {
  readonly index: number;
  readonly spec: PolicySpec;
  readonly condition: Condition;
  readonly schedule: Schedule | undefined;
  readonly budget: Budget | undefined;
  readonly passive: boolean;
  /** It puts questions to sets. */
  readonly asks: boolean;
}

/** Seconds until a policy whose budget is used up is asked again. */
const BUDGET_RETRY = 1;

/** The policies of one worker, in the order in which they are asked. */
export class PolicySet {
  /** Filled when `decide` answers LATER. */
  readonly watch = new Watch();
  readonly specs: readonly PolicySpec[];
  readonly #vetoes: readonly Compiled[];
  /** With the conditions by which they are over. */
  readonly #holds: readonly { policy: Compiled; over: Condition }[];
  readonly #others: readonly Compiled[];
  /** Vetoes and holds that put questions to sets. */
  readonly #asking: readonly Compiled[];
  readonly #all: readonly Compiled[];
  readonly #questions = new Questions();

  /**
   * Pure up to budgets: the same specs give the same decisions everywhere.
   * @throws PolicyError for a condition that is not valid, SluiceError USAGE for a schedule that is none
   */
  constructor(specs: readonly PolicySpec[], sets: PolicySets) {
    this.specs = specs;
    const questions = this.#questions;
    this.#all = specs.map((spec, index): Compiled => {
      const taken = questions.taken;
      return {
        index,
        spec,
        condition: compileCondition(spec.when, sets, false, questions),
        schedule: spec.schedule === undefined ? undefined : parseSchedule(spec.schedule),
        budget: spec.budget === undefined ? undefined : new Budget(spec.budget),
        passive: spec.dryRun || spec.action === 'log',
        asks: questions.taken > taken,
      };
    });
    const ordered = this.#all.toSorted((a, b) => b.spec.priority - a.spec.priority);
    this.#vetoes = ordered.filter(({ spec }) => spec.action === 'never');
    this.#holds = ordered
      .filter(({ spec }) => spec.action === 'hold')
      .map((policy) => ({ policy, over: compileCondition(policy.spec.when, sets, true, questions) }));
    this.#asking = ordered.filter(({ spec, asks }) => asks && isVetoOrHold(spec));
    this.#others = ordered.filter(({ spec }) => !isVetoOrHold(spec));
  }

  /** Nothing is ever done by it. */
  get empty(): boolean {
    return this.#others.length === 0;
  }

  action(index: number): PolicyAction {
    return this.specs[index].action;
  }

  /** How logs name the policy of that index. */
  trigger(index: number): string {
    return triggerOf(this.specs[index]);
  }

  /**
   * The policy that acts on this connection now, or LATER, or SETTLED. `hash` is a stable number of the connection from 0
   * to 2^32 - 1, by which a share is chosen; `now` is packet time; `told` has the policies that were told to `events` for
   * this connection, and is added to. `answers`: what sets said of it before, which is added to as well; without them
   * each set is asked every time.
   */
  decide(
    facts: FlowFacts,
    hash: number,
    now: number,
    told: Set<number>,
    events: PolicyEvents,
    answers?: Answers,
  ): number {
    const { watch } = this;
    this.#questions.answers = answers;
    this.#questions.waited = false;
    watch.clear();
    let later = false;
    let acting: Compiled | undefined;
    for (const policy of this.#others) {
      if (told.has(policy.index)) continue;
      const truth = policy.condition.look(facts);
      if (truth === Truth.never) continue;
      if (truth === Truth.later) {
        later = true;
        watch.join(policy.condition.watch);
        continue;
      }
      if (!this.#mayTake(policy, hash, now, facts, told, events)) {
        later ||= !told.has(policy.index);
        continue;
      }
      if (policy.passive) {
        told.add(policy.index);
        events.noted(policy.index);
        continue;
      }
      acting = policy;
      break;
    }
    if (acting === undefined) {
      if (later && answers !== undefined) this.#askAhead(facts);
      return later ? LATER : SETTLED;
    }
    const veto = this.#vetoes.find(({ condition }) => condition.look(facts) === Truth.holds);
    if (veto !== undefined) {
      events.spared(veto.index, 'never');
      return SETTLED;
    }
    const held = this.#held(facts, told, events);
    if (held !== undefined) return held;
    if (acting.budget !== undefined && !acting.budget.take(now)) {
      events.spared(acting.index, 'budget');
      watch.seconds = Math.min(watch.seconds, facts.duration + BUDGET_RETRY);
      return LATER;
    }
    return acting.index;
  }

  /**
   * Vetoes and holds put their questions to sets before a policy is about to act, so that its decision waits for no more than
   * one set: where the content is still to come, both sides were heard, and this look has not waited for a set itself.
   */
  #askAhead(facts: FlowFacts): void {
    if (!this.watch.news || facts.origPackets === 0 || facts.respPackets === 0) return;
    for (const { condition } of this.#asking) {
      if (this.#questions.waited) return;
      condition.look(facts);
    }
  }

  /** Somebody needs the connection as long as a condition holds: LATER, or SETTLED where that is for good. */
  #held(facts: FlowFacts, told: Set<number>, events: PolicyEvents): number | undefined {
    const { watch } = this;
    let answer: number | undefined;
    for (const { policy, over } of this.#holds) {
      const truth = over.look(facts);
      if (truth === Truth.holds) continue;
      if (!told.has(policy.index)) {
        told.add(policy.index);
        events.spared(policy.index, 'hold');
      }
      if (truth === Truth.never) return SETTLED;
      // Nothing else can make a difference before: the policy that wants it does already.
      if (answer === undefined) watch.clear();
      watch.join(over.watch);
      answer = LATER;
    }
    return answer;
  }

  /** A connection that the policy has taken is not shunted any more. */
  released(index: number): void {
    this.#all[index]?.budget?.giveBack();
  }

  #mayTake(
    { spec, index, schedule }: Compiled,
    hash: number,
    now: number,
    facts: FlowFacts,
    told: Set<number>,
    events: PolicyEvents,
  ): boolean {
    if (hash >= spec.share * 2 ** 32) {
      told.add(index);
      events.spared(index, 'share');
      return false;
    }
    const wait = schedule === undefined ? 0 : untilOpen(schedule, now);
    if (wait === 0) return true;
    this.watch.seconds = Math.min(this.watch.seconds, facts.duration + wait);
    return false;
  }
}

const isVetoOrHold = ({ action }: PolicySpec): boolean => action === 'never' || action === 'hold';

export function triggerOf(spec: PolicySpec): string {
  return spec.trigger ?? spec.name;
}
