import { Cbpf, type CbpfInstruction, type CbpfProgram } from '../../ebpf/cbpf/instruction.ts';
import { answer, meet, question, START, type State, step } from './state.ts';
import { evaluate, type Facts } from './term.ts';

const JUMP = Cbpf.JMP | Cbpf.JA;

/**
 * The same program for packets of which the facts are known: jumps whose answer they give are taken, and what is no
 * longer reached is left out. For any packet of which the facts hold both give the same result.
 */
export function specialize(program: CbpfProgram, facts: Facts): CbpfProgram {
  const known = (key: string): number | undefined => facts.get(key);
  const states: (State | undefined)[] = [START];
  const reach = (at: number, state: State): void => {
    const before = states[at];
    states[at] = before === undefined ? state : meet(before, state);
  };
  const rewritten: (CbpfInstruction | undefined)[] = program.map((instruction, at) => {
    const state = states[at];
    if (state === undefined) return undefined;
    const { code, jt, jf, k } = instruction;
    if ((code & 0x07) === Cbpf.RET) return instruction;
    if ((code & 0x07) !== Cbpf.JMP) {
      reach(at + 1, step(instruction, state));
      return instruction;
    }
    if ((code & 0xf0) === Cbpf.JA) {
      reach(at + 1 + k, state);
      return instruction;
    }
    const { operation, left, right } = question(instruction, state);
    const a = left && evaluate(left, known);
    const b = right && evaluate(right, known);
    if (a === undefined || b === undefined) {
      reach(at + 1 + jt, state);
      reach(at + 1 + jf, state);
      return instruction;
    }
    const skip = answer(operation, a, b) ? jt : jf;
    reach(at + 1 + skip, state);
    return { code: JUMP, jt: 0, jf: 0, k: skip };
  });
  return close(rewritten);
}

/** Closes the gaps. Jumps only get shorter, so every distance still fits. */
function close(program: readonly (CbpfInstruction | undefined)[]): CbpfProgram {
  // A jump to the next instruction that is left is none.
  const kept = program.map((instruction, at) => {
    if (instruction?.code !== JUMP) return instruction;
    const between = program.slice(at + 1, at + 1 + instruction.k);
    return between.every((skipped) => skipped === undefined) ? undefined : instruction;
  });
  const places: number[] = [];
  let count = 0;
  for (const instruction of kept) {
    places.push(count);
    if (instruction !== undefined) count++;
  }
  return kept.flatMap((instruction, at) => {
    if (instruction === undefined) return [];
    if ((instruction.code & 0x07) !== Cbpf.JMP) return [instruction];
    const { code, jt, jf, k } = instruction;
    const distance = (skip: number): number => places[at + 1 + skip] - places[at] - 1;
    if (code === JUMP) return [{ code, jt, jf, k: distance(k) }];
    return [{ code, jt: distance(jt), jf: distance(jf), k }];
  });
}
