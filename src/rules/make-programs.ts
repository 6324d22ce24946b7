import { SluiceError } from '../base/errors.ts';
import { compileFilterText } from '../filter/index.ts';
import type { BpfProgram } from '../kernel/index.ts';
import { loadRuleProgram } from './load-programs.ts';
import {
  compileRules,
  type RuleExpression,
  type RuleProgram,
  type RuleProgramOptions,
} from './program/compile-rules.ts';
import { MOST_CALLS, type RuleCost } from './program/cost.ts';
import type { Rule } from './spec.ts';
import { expressionHash, type ProgramSet, slotsOf, specializeSet } from './taken/program-set.ts';
import { tryRule } from './try-rules.ts';

/** A rule of a set, and its row in the tables. */
export interface PlacedRule {
  readonly rule: Pick<Rule, 'id' | 'expr' | 'lang' | 'tests'>;
  readonly row: number;
  /** Switched off or out of scope: loaded, with nothing left of it. */
  readonly off: boolean;
}

export interface MadeProgram {
  /** Slot of the map `rules` by which others go to it; undefined: none does. */
  readonly slot: number | undefined;
  readonly program: BpfProgram;
}

export interface MadePrograms {
  /** The one where packets come in is the last. */
  readonly programs: readonly MadeProgram[];
  readonly cost: RuleCost;
  /** Rules whose programs were taken as somebody else has compiled them; all others were compiled here. */
  readonly taken: number;
  /** Why none were taken, although there were some to take. */
  readonly whyNot: string | null;
}

function compiled({ rule, row }: PlacedRule): RuleExpression {
  try {
    return { row, program: compileFilterText(rule.expr, rule.lang) };
  } catch (error) {
    throw new SluiceError('RULE', `the expression of rule ${rule.id} is not valid`, {
      cause: error,
      help: 'the rules before stay in force; `sluice filter` shows what is wrong',
    });
  }
}

/** Loads programs; on failure none stay. */
function loadAll(
  programs: readonly RuleProgram[],
  rules: readonly PlacedRule[],
  alsoOff: Iterable<number>,
  frags: boolean | undefined,
): MadeProgram[] {
  const off = new Set([...rules.filter((one) => one.off).map(({ row }) => row), ...alsoOff]);
  const names = new Map(rules.map(({ rule, row }) => [row, rule.id]));
  const made: MadeProgram[] = [];
  try {
    for (const one of programs) {
      const program = loadRuleProgram(one, off, (row) => names.get(row) ?? String(row), frags);
      made.push({ slot: one.slot, program });
    }
  } catch (error) {
    for (const { program } of made) program.close();
    throw error;
  }
  return made;
}

/** Compiles rules, each tried on the packets that came with it. */
function compileHere(
  rules: readonly PlacedRule[],
  options: RuleProgramOptions,
): ReturnType<typeof compileRules> {
  const expressions = rules.map(compiled);
  for (const [index, { rule }] of rules.entries())
    tryRule(rule, expressions[index].program, options.frameLength);
  return compileRules(expressions, options);
}

const both = (one: RuleCost, other: RuleCost): RuleCost => ({
  count: one.count + other.count,
  instructions: one.instructions + other.instructions,
  // The last of the first goes on to the others.
  tailCalls: one.tailCalls + other.tailCalls + (one.count > 0 && other.count > 0 ? 1 : 0),
  stackBytes: Math.max(one.stackBytes, other.stackBytes),
  longestPath: Math.max(one.longestPath, other.longestPath),
  branches: Math.max(one.branches, other.branches),
});

/**
 * The set that was taken, and behind it what is not in it, compiled here: a packet goes through both before anything acts. Undefined when there is
 * nothing of these rules in the set; a text says why it cannot be. @throws as makePrograms, for rules that are compiled here
 */
function withTaken(
  rules: readonly PlacedRule[],
  options: RuleProgramOptions,
  set: ProgramSet,
): MadePrograms | string | undefined {
  const { slots, maps, frags } = options;
  const here: PlacedRule[] = [];
  const there = new Map<number, PlacedRule>();
  for (const one of rules) {
    const known = set.rules.get(one.rule.id);
    const { match, noMatch } = one.rule.tests;
    // What has packets to be tried on is tried here, as it is compiled here.
    if (known?.hash === expressionHash(one.rule) && match.length + noMatch.length === 0)
      there.set(known.number, one);
    else here.push(one);
  }
  if (there.size === 0) return undefined;
  const rest = restHere(here, slotsBehind(options, slotsOf(set)));
  if (typeof rest === 'string') return rest;
  const cost = both(set.cost, rest.cost);
  if (cost.tailCalls > MOST_CALLS) return `${cost.tailCalls} tail calls in a row are too many`;
  const behind = rest.programs.length === 0 ? slots : { shunt: rest.entry, act: rest.entry };
  const taken = specializeSet(set, {
    maps,
    slots: { shunt: behind.shunt, act: behind.act, first: slots.first },
    rowOf: (rule) => there.get(rule)?.row,
  });
  const own = loadAll(atEntry(rest), here, [], frags);
  try {
    const programs = loadAll(taken.programs, [...there.values()], taken.off, frags);
    return { programs: [...own, ...programs], cost, taken: there.size, whyNot: null };
  } catch (error) {
    for (const { program } of own) program.close();
    return `the verifier refuses it here: ${(error as Error).message}`;
  }
}

/** Compiles what is not in the set; a text says that it does not fit beside the set. */
function restHere(
  rules: readonly PlacedRule[],
  options: RuleProgramOptions,
): ReturnType<typeof compileRules> | string {
  try {
    return compileHere(rules, options);
  } catch (error) {
    // What is wrong with a rule is RULE: this is too much for what is left of the slots.
    if (error instanceof SluiceError && error.code === 'FILTER_UNSUPPORTED') return error.message;
    throw error;
  }
}

const slotsBehind = (options: RuleProgramOptions, room: number): RuleProgramOptions => ({
  ...options,
  slots: { ...options.slots, first: options.slots.first + room, count: options.slots.count - room },
});

/** With a slot for the one where packets come in. */
const atEntry = ({ programs, entry }: ReturnType<typeof compileRules>): RuleProgram[] =>
  programs.map((one, index) => (index === programs.length - 1 ? { ...one, slot: entry } : one));

/**
 * Makes the programs of a set of rules and loads them; nothing is live yet. What is in `set` is taken from there; what is not is compiled, each
 * rule tried on the packets that came with it. Takes seconds for thousands of rules: ProgramMaker does it beside the event loop.
 * @throws SluiceError RULE with the rule at fault, FILTER_UNSUPPORTED
 */
export function makePrograms(
  rules: readonly PlacedRule[],
  options: RuleProgramOptions,
  set?: ProgramSet,
): MadePrograms {
  const taken = set === undefined ? undefined : withTaken(rules, options, set);
  if (typeof taken === 'object') return taken;
  const { programs, cost } = compileHere(rules, options);
  const whyNot = taken ?? null;
  return { programs: loadAll(programs, rules, [], options.frags), cost, taken: 0, whyNot };
}
