import { Cbpf, type CbpfInstruction, SkfOffset } from '../../ebpf/cbpf/instruction.ts';
import { plainOffset } from '../../ebpf/cbpf/interpret.ts';
import { type AluOp, alu, constant, LENGTH, load, type Term } from './term.ts';

/** Registers and scratch memory of a classic program, as terms; undefined: not known. */
export interface State {
  readonly a: Term | undefined;
  readonly x: Term | undefined;
  readonly memory: ReadonlyMap<number, Term | undefined>;
}

export const START: State = { a: constant(0), x: constant(0), memory: new Map() };

const OPERATIONS: Readonly<Record<number, AluOp>> = {
  [Cbpf.ADD]: '+',
  [Cbpf.SUB]: '-',
  [Cbpf.MUL]: '*',
  [Cbpf.DIV]: '/',
  [Cbpf.MOD]: '%',
  [Cbpf.OR]: '|',
  [Cbpf.AND]: '&',
  [Cbpf.XOR]: '^',
  [Cbpf.LSH]: '<<',
  [Cbpf.RSH]: '>>',
};

/** Terms stay small: what grows beyond this is not known any more. */
const LONGEST_KEY = 160;

const bounded = (term: Term): Term | undefined => (term.key.length > LONGEST_KEY ? undefined : term);

function loaded({ code, k }: CbpfInstruction, state: State): Term | undefined {
  const size = code & Cbpf.B ? 1 : code & Cbpf.H ? 2 : 4;
  const mode = code & 0xe0;
  if (mode === Cbpf.IMM) return constant(k);
  if (mode === Cbpf.LEN) return LENGTH;
  if (mode === Cbpf.MEM) return state.memory.get(k);
  if (mode === Cbpf.IND) {
    return state.x === undefined ? undefined : bounded(load(size, plainOffset(k >>> 0), state.x));
  }
  if (mode === Cbpf.MSH) return alu('*', alu('&', load(1, k >>> 0), constant(15)), constant(4));
  return k >>> 0 >= SkfOffset.AD ? undefined : load(size, k >>> 0);
}

/** The state behind an instruction that is neither a jump nor a return. */
export function step(instruction: CbpfInstruction, state: State): State {
  const { code, k } = instruction;
  switch (code & 0x07) {
    case Cbpf.LD:
      return { ...state, a: loaded(instruction, state) };
    case Cbpf.LDX:
      return { ...state, x: loaded(instruction, state) };
    case Cbpf.ST:
      return { ...state, memory: new Map(state.memory).set(k, state.a) };
    case Cbpf.STX:
      return { ...state, memory: new Map(state.memory).set(k, state.x) };
    case Cbpf.ALU: {
      const op = OPERATIONS[code & 0xf0];
      const right = code & Cbpf.X ? state.x : constant(k);
      if (state.a === undefined || right === undefined) return { ...state, a: undefined };
      // Negation has no operation of two terms.
      return { ...state, a: bounded(alu(op ?? '-', op ? state.a : constant(0), op ? right : state.a)) };
    }
    default:
      return (code & 0xf8) === Cbpf.TXA ? { ...state, a: state.x } : { ...state, x: state.a };
  }
}

const same = (a: Term | undefined, b: Term | undefined): Term | undefined =>
  a !== undefined && a.key === b?.key ? a : undefined;

/** What is known where two ways meet. */
export function meet(one: State, other: State): State {
  const memory = new Map<number, Term | undefined>();
  for (const [word, term] of one.memory) memory.set(word, same(term, other.memory.get(word)));
  return { a: same(one.a, other.a), x: same(one.x, other.x), memory };
}

/** A conditional jump as a question about two terms. */
export interface Question {
  readonly operation: 'equal' | 'greater' | 'not-less' | 'bits';
  readonly left: Term | undefined;
  readonly right: Term | undefined;
}

const QUESTIONS: Readonly<Record<number, Question['operation']>> = {
  [Cbpf.JEQ]: 'equal',
  [Cbpf.JGT]: 'greater',
  [Cbpf.JGE]: 'not-less',
  [Cbpf.JSET]: 'bits',
};

export function question({ code, k }: CbpfInstruction, state: State): Question {
  return {
    operation: QUESTIONS[code & 0xf0],
    left: state.a,
    right: code & Cbpf.X ? state.x : constant(k),
  };
}

const ANSWERS: Record<Question['operation'], (left: number, right: number) => boolean> = {
  equal: (left, right) => left === right,
  greater: (left, right) => left > right,
  'not-less': (left, right) => left >= right,
  bits: (left, right) => (left & right) !== 0,
};

export function answer(operation: Question['operation'], left: number, right: number): boolean {
  return ANSWERS[operation](left, right);
}
