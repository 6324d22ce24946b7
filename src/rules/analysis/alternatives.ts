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

export const DEFAULT_LIMITS: AlternativeLimits = { alternatives: 256, steps: 16_384 };

/** What was found out on a way, the last first; ways that part have the beginning in common. */
interface Found<T> {
  readonly key: string;
  readonly value: T;
  readonly before: Found<T> | undefined;
}

function find<T>(found: Found<T> | undefined, key: string): T | undefined {
  for (let at = found; at !== undefined; at = at.before) if (at.key === key) return at.value;
  return undefined;
}

interface Way {
  at: number;
  state: State;
  pins: Found<Pin> | undefined;
  /** Answers of questions that are no equality, so that a second asking goes the same way. */
  answers: Found<boolean> | undefined;
}

const valueOf = (way: Way, key: string): number | undefined => find(way.pins, key)?.value;

function alternativeOf(pins: Found<Pin> | undefined): Alternative {
  const out = new Map<string, Pin>();
  for (let at = pins; at !== undefined; at = at.before) out.set(at.key, at.value);
  return out;
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
  const open: Way[] = [{ at: 0, state: START, pins: undefined, answers: undefined }];
  let steps = 0;
  for (let way = open.pop(); way !== undefined; way = open.pop()) {
    for (;;) {
      if (++steps > limits.steps) return undefined;
      const instruction = program[way.at];
      const { code, jt, jf, k } = instruction;
      if ((code & 0x07) === Cbpf.RET) {
        if ((code & Cbpf.A) === 0 && k === 0) break;
        const { a } = way.state;
        if ((code & Cbpf.A) !== 0 && a !== undefined && evaluate(a, (key) => valueOf(way, key)) === 0) break;
        if (found.push(alternativeOf(way.pins)) > limits.alternatives) return undefined;
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

/** Takes one side of a conditional jump; the other side is returned when both can be. */
function fork(way: Way, instruction: CbpfProgram[number], jt: number, jf: number): Way | undefined {
  const { operation, left, right } = question(instruction, way.state);
  const known = (key: string): number | undefined => valueOf(way, key);
  const a = left && evaluate(left, known);
  const b = right && evaluate(right, known);
  if (a !== undefined && b !== undefined) {
    way.at += 1 + (answer(operation, a, b) ? jt : jf);
    return undefined;
  }
  const asked = left && right && `${operation} ${left.key} ${right.key}`;
  const before = asked === undefined ? undefined : find(way.answers, asked);
  if (before !== undefined) {
    way.at += 1 + (before ? jt : jf);
    return undefined;
  }
  const no: Way = { ...way, at: way.at + 1 + jf };
  if (asked !== undefined) {
    no.answers = { key: asked, value: false, before: way.answers };
    way.answers = { key: asked, value: true, before: way.answers };
  }
  if (operation === 'equal') {
    const pin = (term: Term, value: number): void => {
      way.pins = { key: term.key, value: { term, value }, before: way.pins };
    };
    if (left !== undefined && b !== undefined) pin(left, b);
    else if (right !== undefined && a !== undefined) pin(right, a);
  }
  way.at += 1 + jt;
  return no;
}
