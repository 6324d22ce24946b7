/**
 * What the passes work on: static single assignment over basic blocks. A classic program only jumps forward, so the
 * blocks have no cycles; they stand in an order in which each comes after all that lead to it. Values have 32 bits.
 */

export type Arithmetic = 'add' | 'sub' | 'mul' | 'div' | 'or' | 'and' | 'lsh' | 'rsh' | 'mod' | 'xor';

/** a CONDITION b, unsigned; 'set': they have a bit in common. */
export type Comparison = 'eq' | 'ne' | 'gt' | 'ge' | 'lt' | 'le' | 'set';

interface NodeBase {
  readonly id: number;
  /** Values that it uses. */
  args: Node[];
}

export interface Constant extends NodeBase {
  readonly op: 'constant';
  readonly value: number;
}

/** A constant that has to be in a register. */
export interface Materialized extends NodeBase {
  readonly op: 'materialized';
}

/** Length of the packet, index of the interface. */
export interface Environment extends NodeBase {
  readonly op: 'length' | 'interface';
}

/**
 * Bytes of the packet as they lie in memory. `args` is where they are counted from: nothing (the start), a value, or
 * the guard that has looked whether they are there.
 */
export interface Load extends NodeBase {
  readonly op: 'load';
  size: 1 | 2 | 4;
  offset: number;
  /** It looks itself whether the bytes are there, and goes to "no match" when not: done by a call. */
  byCall: boolean;
}

/** From memory order to a number: bytes reversed. */
export interface Swap extends NodeBase {
  readonly op: 'swap';
  readonly size: 2 | 4;
}

export interface Alu extends NodeBase {
  readonly op: 'alu';
  readonly operation: Arithmetic;
}

/** `args` go with `preds` of the block. */
export interface Phi extends NodeBase {
  readonly op: 'phi';
}

/**
 * Goes away from direct access unless the packet has `end` bytes from `root` (default: its start) on. Its value is the
 * address behind them. `args`: the root, or the guard of the same root that it goes on from.
 */
export interface Guard extends NodeBase {
  readonly op: 'guard';
  root: Node | undefined;
  end: number;
}

/** Goes to "no match" when its argument is 0: before a division. */
export interface NonZero extends NodeBase {
  readonly op: 'nonzero';
}

export type Node = Constant | Materialized | Environment | Load | Swap | Alu | Phi | Guard | NonZero;

export interface Branch {
  readonly op: 'branch';
  readonly comparison: Comparison;
  readonly args: [Node, Node];
  readonly yes: Block;
  readonly no: Block;
}

export type End =
  | { readonly op: 'goto'; readonly to: Block }
  | Branch
  /** 0 is no match. */
  | { readonly op: 'return'; readonly args: [Node] };

export interface Block {
  readonly id: number;
  preds: Block[];
  phis: Phi[];
  body: Node[];
  end: End;
}

/** A filter between two passes. `blocks[0]` is the entry. */
export interface Ir {
  blocks: Block[];
  /** Whether what is returned matters, or only whether it is 0. */
  readonly wantsValue: boolean;
  /** Bytes of a packet that XDP can get at: the verifier and bpf_xdp_load_bytes go no farther than 65,535. */
  readonly reach: number;
  nextId: number;
}

/** A node without its number. */
type Bare = Node extends infer N ? (N extends Node ? Omit<N, 'id'> : never) : never;

export function makeNode<T extends Bare>(ir: Ir, bare: T): T & { id: number } {
  return { id: ir.nextId++, ...bare };
}

export const constantNode = (ir: Ir, value: number): Constant =>
  makeNode(ir, { op: 'constant', value: value >>> 0, args: [] });

export const isConstant = (node: Node, value?: number): node is Constant =>
  node.op === 'constant' && (value === undefined || node.value === value);

/** Whether it has to stay though nobody uses its value. */
export const hasEffect = (node: Node): boolean =>
  node.op === 'guard' || node.op === 'nonzero' || (node.op === 'load' && node.byCall);

export function successors({ end }: Block): Block[] {
  if (end.op === 'goto') return [end.to];
  return end.op === 'branch' ? [end.yes, end.no] : [];
}

/** `block` is left for `to` no more: takes one edge and its phi arguments away. */
export function removeEdge(block: Block, to: Block): void {
  const at = to.preds.indexOf(block);
  if (at < 0) return;
  to.preds.splice(at, 1);
  for (const phi of to.phis) phi.args.splice(at, 1);
}

/** Makes the end of `block` a return of `value`. */
export function endWithReturn(block: Block, value: Node): void {
  for (const to of successors(block)) removeEdge(block, to);
  block.end = { op: 'return', args: [value] };
}

/** Takes blocks away that nothing leads to. */
export function dropUnreachable(ir: Ir): void {
  const [entry] = ir.blocks;
  ir.blocks = ir.blocks.filter((block) => {
    if (block === entry || block.preds.length > 0) return true;
    // In order: whatever led to it is gone already, and so will be what only it leads to.
    for (const to of successors(block)) removeEdge(block, to);
    return false;
  });
}

/** Puts `map(node)` in the place of each node that is used. */
export function mapUses(ir: Ir, map: (node: Node) => Node): void {
  for (const block of ir.blocks) {
    for (const node of [...block.phis, ...block.body]) node.args = node.args.map(map);
    const { end } = block;
    if (end.op === 'branch') block.end = { ...end, args: [map(end.args[0]), map(end.args[1])] };
    else if (end.op === 'return') block.end = { ...end, args: [map(end.args[0])] };
  }
}

/** How often each node is used. */
export function countUses(ir: Ir): Map<Node, number> {
  const uses = new Map<Node, number>();
  const count = (node: Node): void => {
    uses.set(node, (uses.get(node) ?? 0) + 1);
  };
  for (const { phis, body, end } of ir.blocks) {
    for (const node of phis) node.args.forEach(count);
    for (const node of body) node.args.forEach(count);
    if (end.op !== 'goto') end.args.forEach(count);
  }
  return uses;
}

/** The nearest block on every way to each block; the entry has none. */
export function dominators(ir: Ir): Map<Block, Block> {
  const order = new Map(ir.blocks.map((block, index) => [block, index]));
  const idom = new Map<Block, Block>();
  const rank = (block: Block): number => order.get(block) ?? 0;
  for (const block of ir.blocks) {
    if (block.preds.length === 0) continue;
    idom.set(
      block,
      block.preds.reduce((a, b) => {
        let [one, other] = [a, b];
        while (one !== other) {
          if (rank(one) > rank(other)) one = idom.get(one) ?? one;
          else other = idom.get(other) ?? other;
        }
        return one;
      }),
    );
  }
  return idom;
}

/** Negation of a comparison; 'set' has none. */
export const OPPOSITES: Partial<Record<Comparison, Comparison>> = {
  eq: 'ne',
  ne: 'eq',
  gt: 'le',
  le: 'gt',
  ge: 'lt',
  lt: 'ge',
};

/** The comparison with its sides exchanged. */
export const MIRRORED: Record<Comparison, Comparison> = {
  eq: 'eq',
  ne: 'ne',
  gt: 'lt',
  lt: 'gt',
  ge: 'le',
  le: 'ge',
  set: 'set',
};

export function reverseBytes(value: number, size: 2 | 4): number {
  if (size === 2) return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

export function arithmetic(operation: Arithmetic, a: number, b: number): number {
  switch (operation) {
    case 'add':
      return (a + b) >>> 0;
    case 'sub':
      return (a - b) >>> 0;
    case 'mul':
      return Math.imul(a, b) >>> 0;
    case 'div':
      return b === 0 ? 0 : Math.floor(a / b);
    case 'mod':
      return b === 0 ? a : a % b;
    case 'or':
      return (a | b) >>> 0;
    case 'and':
      return (a & b) >>> 0;
    case 'xor':
      return (a ^ b) >>> 0;
    case 'lsh':
      return b > 31 ? 0 : (a << b) >>> 0;
    default:
      return b > 31 ? 0 : a >>> b;
  }
}

export function compare(comparison: Comparison, a: number, b: number): boolean {
  switch (comparison) {
    case 'eq':
      return a === b;
    case 'ne':
      return a !== b;
    case 'gt':
      return a > b;
    case 'ge':
      return a >= b;
    case 'lt':
      return a < b;
    case 'le':
      return a <= b;
    default:
      return (a & b) !== 0;
  }
}
