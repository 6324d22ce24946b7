import { alu32, constant, type Instruction, load, type Register, register, store } from '../instruction.ts';

/** A register, a constant, or bytes from the frame pointer down. */
export type Location =
  | { readonly register: Register }
  | { readonly constant: number }
  | { readonly stack: number };

export interface Move {
  readonly from: Location;
  readonly to: Location;
  /** The verifier must not take the two for one and the same later on (sync_linked_regs). */
  readonly unlinked: boolean;
}

const FRAME: Register = 10;
const same = (a: Location, b: Location): boolean =>
  'register' in a
    ? 'register' in b && a.register === b.register
    : 'stack' in a && 'stack' in b && a.stack === b.stack;

/** One move; `scratch` for one from stack to stack, or of a constant to there. */
export function moveInstructions({ from, to, unlinked }: Move, scratch: Register): Instruction[] {
  if (same(from, to)) return [];
  if ('register' in to) {
    if ('stack' in from) return [load(8, to.register, FRAME, from.stack)];
    return [
      alu32('mov', to.register, 'register' in from ? register(from.register) : constant(from.constant)),
    ];
  }
  if (!('stack' in to)) return [];
  if ('register' in from) return [store(8, FRAME, to.stack, from.register)];
  return [
    ...moveInstructions({ from, to: { register: scratch }, unlinked }, scratch),
    store(8, FRAME, to.stack, scratch),
  ];
}

/**
 * All moves as if at once, in an order in which none overwrites what another still needs; a circle is opened over
 * `spare`, which nobody else uses.
 */
export function parallelMoves(moves: readonly Move[], spare: Location, scratch: Register): Instruction[] {
  let waiting = moves.filter(({ from, to }) => !same(from, to));
  const code: Instruction[] = [];
  while (waiting.length > 0) {
    const ready = waiting.find(({ to }) => !waiting.some(({ from }) => same(from, to)));
    if (ready !== undefined) {
      code.push(...moveInstructions(ready, scratch));
      waiting = waiting.filter((move) => move !== ready);
    } else {
      const { from } = waiting[0];
      code.push(...moveInstructions({ from, to: spare, unlinked: true }, scratch));
      waiting = waiting.map((move) => (same(move.from, from) ? { ...move, from: spare } : move));
    }
  }
  return code;
}
