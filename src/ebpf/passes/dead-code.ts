import { hasEffect, type Ir, type Node } from '../ir/ir.ts';

/** Takes away what nobody uses. Guards stay: they decide where a packet goes. */
export function removeDeadCode(ir: Ir): void {
  const used = new Set<Node>();
  const use = (node: Node): void => {
    used.add(node);
  };
  for (const block of ir.blocks.toReversed()) {
    if (block.end.op !== 'goto') block.end.args.forEach(use);
    block.body = block.body
      .toReversed()
      .filter((node) => {
        if (!hasEffect(node) && !used.has(node)) return false;
        node.args.forEach(use);
        return true;
      })
      .toReversed();
    block.phis = block.phis.filter((phi) => used.has(phi));
    for (const phi of block.phis) phi.args.forEach(use);
  }
}
