import { goto, type Item, jumpTo, label, plain } from '../assembler.ts';
import { alu32, constant, jump, type Register, register } from '../instruction.ts';
import { type Block, type Branch, type Ir, MIRRORED, OPPOSITES } from '../ir/ir.ts';
import { allocate } from './allocate.ts';
import { Emitter, type Target } from './emit.ts';
import { layout, type Placeable } from './layout.ts';
import { splitEdges } from './split-edges.ts';

export interface Lowered {
  readonly code: Item[];
  /** Bytes of stack in use, at most. */
  readonly stack: number;
}

export interface LowerOptions {
  readonly target: Target;
  readonly pool: readonly Register[];
  /** Registers for values on the stack, if they are not to come from the pool. */
  readonly scratch?: readonly Register[];
  /** Label that stands right behind. */
  readonly behind: string | undefined;
  /** What is to be placed among the blocks, each with its label. */
  readonly verdicts: readonly (readonly [label: string, code: readonly Item[]])[];
}

/** A filter as eBPF: registers, instructions block by block, an order of the blocks. */
export function lower(ir: Ir, { target, pool, scratch, behind, verdicts }: LowerOptions): Lowered {
  splitEdges(ir);
  const allocation = allocate(ir, pool, scratch);
  const emitter = new Emitter(ir, allocation, target);
  const bodies = new Map(
    ir.blocks.map((block) => [block, [...emitter.body(block), ...emitter.moves(block)]]),
  );
  const name = (block: Block): string => `${target.prefix}${block.id}`;

  /** The label that stands for a block: its own, or where it goes when there is nothing in it. */
  const labelOf = (block: Block): string => {
    const { end } = block;
    if (bodies.get(block)?.length !== 0) return name(block);
    if (end.op === 'goto') return labelOf(end.to);
    if (end.op === 'branch' || end.args[0].op !== 'constant') return name(block);
    if (end.args[0].value === 0) return target.noMatch;
    return target.value === undefined ? target.match : name(block);
  };
  const entry = ir.blocks[0];
  const blocks = ir.blocks.filter((block) => block === entry || labelOf(block) === name(block));
  const names = [...blocks.map(name), ...verdicts.map(([label]) => label)];
  const indices = new Map(names.map((label, index) => [label, [index]]));
  const find = (label: string): number[] => indices.get(label) ?? [];

  const isVerdict = (label: string): boolean => label === target.match || label === target.noMatch;
  const leavesFor = ({ end }: Block): string[] => {
    if (end.op === 'goto') return [labelOf(end.to)];
    if (end.op === 'branch') return [labelOf(end.yes), labelOf(end.no)];
    return [end.args[0].op === 'constant' && end.args[0].value === 0 ? target.noMatch : target.match];
  };
  const placeable = (block: Block): Placeable => {
    const labels = leavesFor(block);
    const fails = bodies.get(block)?.flatMap((item) => ('target' in item ? (item.target ?? []) : [])) ?? [];
    if (block.end.op === 'return') fails.push(target.noMatch);
    // A test of bits cannot be turned round: what follows when it fails should stand behind it.
    const behind = block.end.op === 'branch' && block.end.comparison === 'set' ? labels.slice(1) : labels;
    return {
      next: [...new Set([...labels, ...fails].flatMap(find))],
      behind: behind.toSorted((x, y) => Number(isVerdict(x)) - Number(isVerdict(y))).flatMap(find),
      late: false,
    };
  };
  const order = layout([
    ...blocks.map(placeable),
    ...verdicts.map((): Placeable => ({ next: [], behind: [], late: true })),
  ]);
  const code = order.flatMap((index, at): Item[] => {
    const here = label(names[index]);
    if (index >= blocks.length) return [here, ...verdicts[index - blocks.length][1]];
    const block = blocks[index];
    const following = order[at + 1];
    const next = following === undefined ? behind : names[following];
    return [here, ...(bodies.get(block) ?? []), ...ending(block, next, { emitter, target, labelOf })];
  });
  return { code, stack: emitter.stack };
}

interface Ending {
  readonly emitter: Emitter;
  readonly target: Target;
  readonly labelOf: (block: Block) => string;
}

/** The end of a block; `next` is the label that stands behind it. */
function ending(block: Block, next: string | undefined, context: Ending): Item[] {
  const { emitter, target, labelOf } = context;
  const { end } = block;
  const code: Item[] = [];
  const go = (to: string): void => {
    if (to !== next) code.push(goto(to));
  };
  if (end.op === 'goto') go(labelOf(end.to));
  else if (end.op === 'branch') branch(end, next, code, context);
  else {
    const [result] = end.args;
    if (result.op === 'constant') {
      if (result.value !== 0 && target.value !== undefined)
        code.push(plain(alu32('mov', target.value, constant(result.value))));
      go(result.value === 0 ? target.noMatch : target.match);
      return code;
    }
    const operand = emitter.operand(result, code, 0);
    if (!('register' in operand)) return code;
    code.push(jumpTo(jump('eq', operand.register, constant(0)), target.noMatch));
    if (target.value !== undefined && target.value !== operand.register)
      code.push(plain(alu32('mov', target.value, register(operand.register))));
    go(target.match);
  }
  return code;
}

function branch(end: Branch, next: string | undefined, code: Item[], { emitter, labelOf }: Ending): void {
  const [yes, no] = [labelOf(end.yes), labelOf(end.no)];
  if (yes === no) {
    if (yes !== next) code.push(goto(yes));
    return;
  }
  let { comparison } = end;
  let [a, b] = end.args;
  if (a.op === 'constant') {
    [a, b] = [b, a];
    comparison = MIRRORED[comparison];
  }
  const left = emitter.operand(a, code, 0);
  const right = emitter.operand(b, code, 1);
  if (!('register' in left)) return;
  const opposite = OPPOSITES[comparison];
  if (yes === next && opposite !== undefined) {
    code.push(jumpTo(jump(opposite, left.register, right), no));
    return;
  }
  code.push(jumpTo(jump(comparison, left.register, right), yes));
  if (no !== next) code.push(goto(no));
}
