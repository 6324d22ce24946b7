import { type FlowEngine, FlowFlag } from '../flow/index.ts';
import {
  Answers,
  LATER,
  MAX_QUESTIONS,
  type PolicyEvents,
  type PolicyPlan,
  PolicySet,
  type SparedWhy,
  setsOf,
} from '../policy/index.ts';
import { EngineFacts, type Geography } from './facts.ts';

/** What is told beside the decision; at most a few times for a connection. */
export interface DeciderEvents {
  /** The policy holds, but only counts (dry run) or logs. */
  noted(slot: number, index: number): void;
  spared(slot: number, index: number, why: SparedWhy): void;
}

/** Of each flow: packets, IP bytes and time from which on it is looked at again; then what sets have said of it. */
const WORDS = 4;
/** The same in words of 32 bits: questions that were asked, and whether news matter; those that were answered with yes. */
const MARKS = 2;
const ASKED = 6;
const YES = 7;
const NEWS = 1 << MAX_QUESTIONS;
/** What `consider` answers beside an index and -1: it has looked, and will again; or never will. */
const DECIDED_LATER = -2;
const DECIDED_SETTLED = -3;
const BITS = FlowFlag.settled | FlowFlag.news | FlowFlag.bypassed;

/**
 * Which policy acts on which flow, and when. A flow is looked at with its first packet, and then only when something has
 * come by which a policy can have become true: of a flow that none can take any more, a packet costs one test of a bit.
 */
export class Decider {
  readonly #engine: FlowEngine;
  readonly #events: DeciderEvents;
  #facts: EngineFacts;
  readonly #watches: Float64Array;
  /** Words of the same memory: numbers that are read one way only. */
  readonly #marks: Int32Array;
  readonly #answers = new Answers();
  /** Policies that were told of a flow. */
  readonly #told = new Map<number, Set<number>>();
  /** Which policy with a limit on live connections has taken a flow. */
  readonly #taken = new Map<number, number>();
  #policies: PolicySet;
  #scratch = new Set<number>();
  #slot = 0;
  readonly #toEvents: PolicyEvents = {
    noted: (index) => this.#events.noted(this.#slot, index),
    spared: (index, why) => this.#events.spared(this.#slot, index, why),
  };

  constructor(
    engine: FlowEngine,
    maxFlows: number,
    plan: PolicyPlan,
    events: DeciderEvents,
    geography?: Geography,
  ) {
    this.#engine = engine;
    this.#events = events;
    this.#facts = new EngineFacts(engine, geography);
    this.#watches = new Float64Array(maxFlows * WORDS);
    this.#marks = new Int32Array(this.#watches.buffer);
    this.#policies = new PolicySet(plan.specs, setsOf(plan));
  }

  get policies(): PolicySet {
    return this.#policies;
  }

  /** Other policies from now on: every flow is looked at anew. */
  replace(plan: PolicyPlan, geography?: Geography): void {
    this.#facts = new EngineFacts(this.#engine, geography);
    this.#policies = new PolicySet(plan.specs, setsOf(plan));
    this.#watches.fill(0);
    this.#told.clear();
    this.#taken.clear();
    this.#engine.unsettleAll();
  }

  /** After a packet of a flow that nothing is done about yet: index of the policy that acts on it now, or -1. */
  look(slot: number, now: number): number {
    const engine = this.#engine;
    const flags = engine.flags(slot) & BITS;
    if ((flags & (FlowFlag.settled | FlowFlag.bypassed)) !== 0) return -1;
    const index = this.consider(slot, now, flags !== 0);
    if (index === DECIDED_LATER || index === DECIDED_SETTLED) {
      engine.takeNews(slot);
      if (index === DECIDED_SETTLED) engine.setSettled(slot, true);
      return -1;
    }
    return index;
  }

  /**
   * The same for several deciders over one engine: `news` is whether something was learned since the last packet. Leaves
   * the marks of the flow alone. Answers -1 for a flow that was not looked at.
   */
  consider(slot: number, now: number, news: boolean): number {
    const engine = this.#engine;
    const watches = this.#watches;
    const at = slot * WORDS;
    if (
      (!news || (this.#marks[at * MARKS + ASKED] & NEWS) === 0) &&
      engine.packets(slot, 0) + engine.packets(slot, 1) < watches[at] &&
      engine.ipBytes(slot, 0) + engine.ipBytes(slot, 1) < watches[at + 1] &&
      now < watches[at + 2]
    )
      return -1;
    // Half a handshake, or a hole that may still be filled: soon.
    if (!engine.isShuntable(slot)) return -1;
    return this.#decide(slot, now);
  }

  #decide(slot: number, now: number): number {
    const engine = this.#engine;
    const policies = this.#policies;
    const answers = this.#answers;
    const told = this.#told.get(slot) ?? this.#scratch;
    this.#slot = slot;
    this.#release(slot);
    const at = slot * WORDS;
    const mark = at * MARKS;
    const before = this.#marks[mark + ASKED];
    answers.asked = before & ~NEWS;
    answers.yes = this.#marks[mark + YES];
    const facts = this.#facts.at(slot, now);
    const index = policies.decide(facts, engine.hash(slot), now, told, this.#toEvents, answers);
    const { watch } = policies;
    const news = index === LATER ? watch.news : index >= 0 && (before & NEWS) !== 0;
    this.#marks[mark + ASKED] = answers.asked | (news ? NEWS : 0);
    this.#marks[mark + YES] = answers.yes;
    if (told === this.#scratch && told.size > 0) {
      this.#told.set(slot, told);
      this.#scratch = new Set();
    }
    if (index >= 0) {
      if (policies.specs[index].budget !== undefined) this.#taken.set(slot, index);
      return index;
    }
    if (index === LATER) {
      this.#watches[at] = watch.packets;
      this.#watches[at + 1] = watch.bytes;
      this.#watches[at + 2] = engine.startTime(slot) + watch.seconds;
      return DECIDED_LATER;
    }
    this.#watches.fill(Number.POSITIVE_INFINITY, at, at + 3);
    return DECIDED_SETTLED;
  }

  /** The flow is looked at with its next packet, whatever was found out about it before. */
  again(slot: number): void {
    this.#watches.fill(0, slot * WORDS, slot * WORDS + WORDS);
    this.#engine.setSettled(slot, false);
  }

  /** It was not done what was decided: a budget is given back. */
  undone(slot: number): void {
    this.#release(slot);
  }

  /** The flow has ended. */
  closed(slot: number): void {
    this.#watches.fill(0, slot * WORDS, slot * WORDS + WORDS);
    this.#told.delete(slot);
    this.#release(slot);
  }

  #release(slot: number): void {
    const index = this.#taken.get(slot);
    if (index === undefined) return;
    this.#taken.delete(slot);
    this.#policies.released(index);
  }
}
