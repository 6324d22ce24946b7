import { type Block, type Ir, isConstant, type Node, successors } from '../ir/ir.ts';

/** Values that are used behind the end of each block, arguments of phis that it leads to included. */
export function liveOut(ir: Ir): Map<Block, Set<Node>> {
  const ins = new Map<Block, Set<Node>>();
  const outs = new Map<Block, Set<Node>>();
  for (const block of ir.blocks.toReversed()) {
    const live = new Set<Node>();
    for (const to of successors(block)) {
      for (const node of ins.get(to) ?? []) live.add(node);
      const at = to.preds.indexOf(block);
      for (const { args } of to.phis) if (!isConstant(args[at])) live.add(args[at]);
    }
    outs.set(block, new Set(live));
    for (const node of usesOfEnd(block)) live.add(node);
    for (const node of block.body.toReversed()) {
      live.delete(node);
      for (const arg of node.args) if (!isConstant(arg)) live.add(arg);
    }
    for (const phi of block.phis) live.delete(phi);
    ins.set(block, live);
  }
  return outs;
}

/** Values, not constants, that the end of a block uses. */
export const usesOfEnd = ({ end }: Block): Node[] =>
  end.op === 'goto' ? [] : end.args.filter((arg) => !isConstant(arg));

/** For each node of the body, the arguments whose last use it is. */
export function lastUses(block: Block, out: ReadonlySet<Node>): Node[][] {
  const later = new Set([...out, ...usesOfEnd(block)]);
  return block.body
    .toReversed()
    .map((node) => {
      const last = [...new Set(node.args)].filter((arg) => !isConstant(arg) && !later.has(arg));
      for (const arg of last) later.add(arg);
      return last;
    })
    .toReversed();
}
