import { EXIT, GOTO, type Instruction, type Item, isWide } from '../../ebpf/index.ts';
import { STACK } from './abi.ts';
import { isSwitchItem } from './candidate.ts';

/** What the kernel allows, and what of it rules may take: all that splitting a set goes by. */
export const LIMITS = {
  /** Of one program (BPF_MAXINSNS of privileged ones). */
  instructions: 1_000_000,
  /** Undecided jumps on one way through a program: the verifier remembers so many (BPF_COMPLEXITY_LIMIT_JMP_SEQ). */
  branches: 8192,
  /** Bytes of one program (MAX_BPF_STACK). */
  stack: 512,
  /** Tail calls in a row (MAX_TAIL_CALL_CNT), and of those the ones around the rules: from libxdp's component, into them, to what acts, the shunts, the hook, the next. */
  tailCalls: 33,
  tailCallsAround: 7,
} as const;

/** Tail calls in a row that are left for the programs of a set among each other. */
export const MOST_CALLS = LIMITS.tailCalls - LIMITS.tailCallsAround;

/** Cost of one program: its instructions stay below the 32,767 that a jump reaches. */
export const PROGRAM_COST = 24_000;
/** A branch costs what it takes of the limit, like an instruction. */
const BRANCH = Math.ceil(PROGRAM_COST / (LIMITS.branches - 192));

/** What a set of rules costs in the kernel, as computed of its instructions alone. */
export interface RuleCost {
  /** Programs. */
  readonly count: number;
  /** Of all of them. */
  readonly instructions: number;
  /** In a row at most, from the first program to the last. */
  readonly tailCalls: number;
  /** The most that one of them takes of the stack. */
  readonly stackBytes: number;
  /** Instructions on the longest way through one of them, and the jumps on the way that has most. */
  readonly longestPath: number;
  readonly branches: number;
}

interface Path {
  readonly instructions: number;
  readonly branches: number;
}

const NOTHING: Path = { instructions: 0, branches: 0 };

/** The longest ways through code of which all jumps go forward; what lies outside of it counts nothing. */
export function longestPath(code: readonly Item[]): Path {
  const labels = new Map<string, Path>();
  let { instructions, branches } = NOTHING;
  for (let at = code.length - 1; at >= 0; at--) {
    const item = code[at];
    if ('label' in item) {
      labels.set(item.label, { instructions, branches });
      continue;
    }
    const there = item.target === undefined ? undefined : (labels.get(item.target) ?? NOTHING);
    if (item.instruction === EXIT) ({ instructions, branches } = NOTHING);
    else if (item.instruction === GOTO && there !== undefined) ({ instructions, branches } = there);
    else if (there !== undefined) {
      instructions = Math.max(instructions, there.instructions);
      // The verifier knows where the switch of a rule goes.
      branches = Math.max(branches, there.branches) + (isSwitchItem(item) ? 0 : 1);
    }
    instructions++;
  }
  return { instructions, branches };
}

/** What a piece of code takes of a program, at most: of pieces in a row no more than their sum. */
export function costOf(code: readonly Item[]): number {
  const instructions = code.filter((item) => 'instruction' in item).length;
  return Math.max(instructions, longestPath(code).branches * BRANCH);
}

/** Bytes below r10 that a program names. */
export function stackOf(program: readonly Instruction[]): number {
  let most: number = STACK;
  for (const instruction of program) {
    if (isWide(instruction)) continue;
    const { code, dst, src, off } = instruction;
    const kind = code & 0x07;
    const onStack = kind === LDX ? src === 10 : (kind === ST || kind === STX) && dst === 10;
    if (onStack) most = Math.max(most, -off);
  }
  return most;
}

const [LDX, ST, STX] = [1, 2, 3];
