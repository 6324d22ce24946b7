import { SluiceError } from '../base/errors.ts';
import { compileFilterText } from '../filter/index.ts';
import type { BpfProgram } from '../kernel/index.ts';
import { loadRuleProgram } from './load-programs.ts';
import { compileRules, type RuleExpression, type RuleProgramOptions } from './program/compile-rules.ts';
import type { RuleCost } from './program/cost.ts';
import type { Rule } from './spec.ts';
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

/**
 * Compiles a set of rules, tries each on the packets that came with it, and loads the programs; nothing is live yet. Takes
 * seconds for thousands of rules: ProgramMaker does it beside the event loop. @throws SluiceError RULE with the rule
 * at fault, FILTER_UNSUPPORTED
 */
export function makePrograms(rules: readonly PlacedRule[], options: RuleProgramOptions): MadePrograms {
  const expressions = rules.map(compiled);
  for (const [index, { rule }] of rules.entries()) {
    tryRule(rule, expressions[index].program, options.frameLength);
  }
  const { programs, cost } = compileRules(expressions, options);
  const off = new Set(rules.filter((one) => one.off).map(({ row }) => row));
  const names = new Map(rules.map(({ rule, row }) => [row, rule.id]));
  const made: MadeProgram[] = [];
  try {
    for (const one of programs) {
      const program = loadRuleProgram(one, off, (row) => names.get(row) ?? String(row), options.frags);
      made.push({ slot: one.slot, program });
    }
  } catch (error) {
    for (const { program } of made) program.close();
    throw error;
  }
  return { programs: made, cost };
}
