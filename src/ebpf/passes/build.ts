import { CBPF_OPERATIONS, CBPF_WORDS, Cbpf } from '../cbpf/instruction.ts';
import {
  type Arithmetic,
  type Block,
  type Comparison,
  type Constant,
  constantNode,
  type End,
  type Ir,
  makeNode,
  type Node,
  type Phi,
} from '../ir/ir.ts';
import { isInterface, type Step } from './expand.ts';
import type { Run } from './split.ts';

const COMPARISONS: Record<number, Comparison> = {
  [Cbpf.JEQ]: 'eq',
  [Cbpf.JGT]: 'gt',
  [Cbpf.JGE]: 'ge',
  [Cbpf.JSET]: 'set',
};

/** Places in the state of the classic machine: 16 words of scratch memory, A and X. */
const A = CBPF_WORDS;
const X = CBPF_WORDS + 1;
const PLACES = CBPF_WORDS + 2;

/** What is in each place; scratch memory that was not written on every way is undefined. */
type State = (Node | undefined)[];

/**
 * From runs of classic instructions to values: registers begin as 0 (as in the kernel and in libpcap), scratch memory
 * goes away, and where ways meet with different values stands a phi. With `wantsValue` false a filter returns 0 or 1.
 */
export function build(runs: readonly Run[], wantsValue: boolean, reach: number): Ir {
  const nothing: End = { op: 'goto', to: undefined as never };
  const ir: Ir = { blocks: [], wantsValue, reach, nextId: 0 };
  ir.blocks = runs.map((_, id) => ({ id, preds: [], phis: [], body: [], end: nothing }));
  const constants = new Map<number, Constant>();
  const constant = (value: number): Constant => {
    const known = constants.get(value >>> 0) ?? constantNode(ir, value);
    constants.set(value >>> 0, known);
    return known;
  };
  const returns = new Map<Node, Block>();
  /** The one block that returns `value`, or a block for each place where it is no constant. */
  const returning = (value: Node): Block => {
    const known = returns.get(value);
    if (known !== undefined) return known;
    const block: Block = {
      id: ir.blocks.length + returns.size,
      preds: [],
      phis: [],
      body: [],
      end: { op: 'return', args: [value] },
    };
    returns.set(value, block);
    return block;
  };

  const outs: State[] = [];
  const enter = (block: Block): State => {
    const [first, ...others] = block.preds.map(({ id }) => outs[id]);
    if (first === undefined) {
      const state: State = Array.from({ length: PLACES }, () => undefined);
      state[A] = constant(0);
      state[X] = constant(0);
      return state;
    }
    if (others.length === 0) return [...first];
    return first.map((value, place) => {
      if (others.every((other) => other[place] === value)) return value;
      const args = [value, ...others.map((other) => other[place])];
      if (args.includes(undefined)) return undefined;
      const phi: Phi = makeNode(ir, { op: 'phi', args: args as Node[] });
      block.phis.push(phi);
      return phi;
    });
  };

  const fill = (block: Block, { steps, next }: Run): void => {
    const state = enter(block);
    outs[block.id] = state;
    const add = <T extends Node>(node: T): T => {
      block.body.push(node);
      return node;
    };
    /** A value that every way here has set: validation has seen to it. */
    const at = (place: number): Node => state[place] ?? constant(0);
    const operand = ({ code, k }: Step): Node => (code & Cbpf.X ? at(X) : constant(k));
    const alu = (operation: Arithmetic, a: Node, b: Node): Node =>
      add(makeNode(ir, { op: 'alu', operation, args: [a, b] }));
    const load = (size: 1 | 2 | 4, offset: number, root?: Node): Node => {
      const args = root === undefined ? [] : [root];
      const raw = add(makeNode(ir, { op: 'load', size, offset, byCall: false, args }));
      return size === 1 ? raw : add(makeNode(ir, { op: 'swap', size, args: [raw] }));
    };
    const loaded = (step: Step): Node => {
      const { code, k } = step;
      const size = code & Cbpf.B ? 1 : code & Cbpf.H ? 2 : 4;
      switch (code & 0xe0) {
        case Cbpf.IMM:
          return constant(k);
        case Cbpf.MEM:
          return at(k);
        case Cbpf.LEN:
          return add(makeNode(ir, { op: 'length', args: [] }));
        case Cbpf.IND:
          return load(size, k, at(X));
        case Cbpf.MSH:
          return alu('lsh', alu('and', load(1, k), constant(0xf)), constant(2));
        default:
          return isInterface(step) ? add(makeNode(ir, { op: 'interface', args: [] })) : load(size, k);
      }
    };
    for (const step of steps) {
      const { code, k } = step;
      switch (code & 0x07) {
        case Cbpf.LD:
          state[A] = loaded(step);
          break;
        case Cbpf.LDX:
          state[X] = loaded(step);
          break;
        case Cbpf.ST:
          state[k] = at(A);
          break;
        case Cbpf.STX:
          state[k] = at(X);
          break;
        case Cbpf.ALU:
          state[A] =
            (code & 0xf0) === Cbpf.NEG
              ? alu('sub', constant(0), at(A))
              : alu(CBPF_OPERATIONS[code & 0xf0], at(A), operand(step));
          break;
        case Cbpf.MISC:
          if ((code & 0xf8) === Cbpf.TXA) state[A] = at(X);
          else state[X] = at(A);
          break;
        default:
      }
    }
    block.end = ending(steps[steps.length - 1], next, at(A), operand);
    for (const to of block.end.op === 'branch' ? [block.end.yes, block.end.no] : []) to.preds.push(block);
    if (block.end.op === 'goto') block.end.to.preds.push(block);
  };

  const ending = (last: Step, next: readonly number[], a: Node, operand: (step: Step) => Node): End => {
    if ((last.code & 0x07) === Cbpf.RET) {
      const value = last.code & Cbpf.A ? a : constant(last.k);
      if (wantsValue)
        return value.op === 'constant'
          ? { op: 'goto', to: returning(value) }
          : { op: 'return', args: [value] };
      if (value.op === 'constant') return { op: 'goto', to: returning(constant(value.value === 0 ? 0 : 1)) };
      const [yes, no] = [returning(constant(0)), returning(constant(1))];
      return { op: 'branch', comparison: 'eq', args: [value, constant(0)], yes, no };
    }
    const [yes, no] = next.map((index) => ir.blocks[index]);
    if (no === undefined) return { op: 'goto', to: yes };
    const comparison = COMPARISONS[last.code & 0xf0];
    return { op: 'branch', comparison, args: [a, operand(last)], yes, no };
  };

  for (const [index, run] of runs.entries()) fill(ir.blocks[index], run);
  ir.blocks.push(...returns.values());
  return ir;
}
