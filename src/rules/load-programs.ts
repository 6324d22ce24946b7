import { SluiceError } from '../base/errors.ts';
import { encode, type Instruction } from '../ebpf/index.ts';
import {
  type BpfProgram,
  loadInstructions,
  ProgramFlag,
  ProgramType,
  VerifierError,
} from '../kernel/index.ts';
import { RULE_SWITCH, RULE_SWITCHED_OFF } from './program/candidate.ts';
import type { RuleProgram } from './program/compile-rules.ts';

const isSwitch = ({ code, dst, imm }: Instruction): boolean =>
  code === RULE_SWITCH.code && dst === RULE_SWITCH.dst && imm === RULE_SWITCH.imm;

/** Positions of the switches, in the order of `RuleProgram.switches`. */
function switchPositions(instructions: readonly Instruction[]): number[] {
  return instructions.flatMap((instruction, at) => (isSwitch(instruction) ? [at] : []));
}

/** The same program with some rules switched off: nothing of them is left once the verifier has seen it. */
export function withSwitches(program: RuleProgram, off: ReadonlySet<number>): Instruction[] {
  const instructions = [...program.instructions];
  const positions = switchPositions(instructions);
  for (const [index, row] of program.switches.entries()) {
    const at = positions[index];
    if (off.has(row)) instructions[at] = { ...RULE_SWITCHED_OFF, off: instructions[at].off };
  }
  return instructions;
}

/**
 * Loads a rule program. A refusal names the row of the rule at fault, if it is one.
 * @param frags as of the gate: whether it takes frames in several buffers
 */
export function loadRuleProgram(
  program: RuleProgram,
  off: ReadonlySet<number>,
  nameOf: (row: number) => string,
  frags = true,
): BpfProgram {
  const instructions = withSwitches(program, off);
  try {
    return loadInstructions(encode(instructions), {
      type: ProgramType.xdp,
      name: 'sluice_rules',
      license: 'Dual BSD/GPL',
      flags: frags ? ProgramFlag.xdpHasFrags : 0,
    });
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    const at = error.insn ?? -1;
    const index = switchPositions(program.instructions).findLastIndex((position) => position <= at);
    const row = program.switches[index];
    const what =
      row === undefined ? 'the verifier refuses the rules' : `the verifier refuses rule ${nameOf(row)}`;
    throw new SluiceError('RULE', what, {
      cause: error,
      help: 'the rules before stay in force; take the rule out or change it',
    });
  }
}
