import { Cbpf, type CbpfProgram } from '../../ebpf/cbpf/instruction.ts';
import { answer, question, START, type State, step } from './state.ts';
import { evaluate, type Term } from './term.ts';

/** One equality that every packet on a way to a match fulfils. */
export interface Pin {
  readonly term: Term;
  readonly value: number;
}

/** The equalities of one way to a match, by the key of their term. */
export type Alternative = ReadonlyMap<string, Pin>;

export interface AlternativeLimits {
  /** Ways to a match. */
  alternatives: number;
  /** Instructions looked at, over all ways. */
  steps: number;
}

export const DEFAULT_LIMITS: AlternativeLimits = { alternatives: 256, steps: 65_536 };

interface Way {
  at: number;
  state: State;
  pins: Map<string, Pin>;
  /** Answers of questions that are no equality, so that a second asking goes the same way. */
  answers: Map<string, boolean>;
}

/**
 * All ways through a validated classic program that end in a match, each as the equalities that hold on it: necessary
 * for a match, not sufficient. Undefined when there are more than the limits allow: then nothing is known.
 */
export function alternatives(
  program: CbpfProgram,
  limits: AlternativeLimits = DEFAULT_LIMITS,
): Alternative[] | undefined {
  const found: Alternative[] = [];
  const open: Way[] = [{ at: 0, state: START, pins: new Map(), answers: new Map() }];
  let steps = 0;
  for (let way = open.pop(); way !== undefined; way = open.pop()) {
    for (;;) {
      if (++steps > limits.steps) return undefined;
      const instruction = program[way.at];
      const { code, jt, jf, k } = instruction;
      if ((code & 0x07) === Cbpf.RET) {
        if ((code & Cbpf.A) === 0 && k === 0) break;
        const { a } = way.state;
        if ((code & Cbpf.A) !== 0 && a !== undefined && evaluate(a, valuesOf(way.pins)) === 0) break;
        if (found.push(way.pins) > limits.alternatives) return undefined;
        break;
      }
      if ((code & 0x07) !== Cbpf.JMP) {
        way.state = step(instruction, way.state);
        way.at++;
      } else if ((code & 0xf0) === Cbpf.JA) way.at += 1 + k;
      else {
        const other = fork(way, instruction, jt, jf);
        if (other !== undefined) open.push(other);
      }
    }
  }
  return found;
}

const valuesOf = (pins: ReadonlyMap<string, Pin>): Map<string, number> =>
  new Map([...pins].map(([key, { value }]) => [key, value]));

/** Takes one side of a conditional jump; the other side is returned when both can be. */
function fork(way: Way, instruction: CbpfProgram[number], jt: number, jf: number): Way | undefined {
  const { operation, left, right } = question(instruction, way.state);
  const values = valuesOf(way.pins);
  const a = left && evaluate(left, values);
  const b = right && evaluate(right, values);
  if (a !== undefined && b !== undefined) {
    way.at += 1 + (answer(operation, a, b) ? jt : jf);
    return undefined;
  }
  const asked = left && right && `${operation} ${left.key} ${right.key}`;
  const known = asked === undefined ? undefined : way.answers.get(asked);
  if (known !== undefined) {
    way.at += 1 + (known ? jt : jf);
    return undefined;
  }
  const no: Way = {
    at: way.at + 1 + jf,
    state: way.state,
    pins: new Map(way.pins),
    answers: new Map(way.answers),
  };
  if (asked !== undefined) {
    no.answers.set(asked, false);
    way.answers.set(asked, true);
  }
  if (operation === 'equal') {
    if (left !== undefined && b !== undefined) way.pins.set(left.key, { term: left, value: b });
    else if (right !== undefined && a !== undefined) way.pins.set(right.key, { term: right, value: a });
  }
  way.at += 1 + jt;
  return no;
}
