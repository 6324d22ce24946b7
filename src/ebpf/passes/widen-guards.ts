import { type Block, type Ir, isConstant, type Node, successors } from '../ir/ir.ts';
import { LOAD_REACH } from './guard-packet.ts';

/** What stands for the start of the packet among the roots. */
const START = undefined;
type Needs = Map<Node | undefined, number>;

/**
 * A guard looks at once for all bytes that every way from it to a match needs, so that later guards have nothing left
 * to look for. Ways that end without a match need nothing: failing earlier ends them the same.
 */
export function widenGuards(ir: Ir): void {
  // What every match needs from where the block begins; undefined: there is no match.
  const needs = new Map<Block, Needs | undefined>();
  for (const block of ir.blocks.toReversed()) {
    let need = meet(block, needs);
    for (const node of block.body.toReversed()) {
      if (node.op !== 'guard') continue;
      const { root } = node;
      const wanted = need?.get(root) ?? 0;
      if (wanted > node.end && wanted - node.end <= LOAD_REACH) node.end = wanted;
      need = new Map(need).set(root, Math.max(node.end, wanted));
    }
    needs.set(block, need);
  }
}

function meet(block: Block, needs: ReadonlyMap<Block, Needs | undefined>): Needs | undefined {
  const { end } = block;
  if (end.op === 'return') return isConstant(end.args[0], 0) ? undefined : new Map([[START, 0]]);
  const ways = successors(block).flatMap((to) => needs.get(to) ?? []);
  if (ways.length === 0) return undefined;
  const [first, ...others] = ways;
  return new Map(
    [...first].map(([root, end]) => [root, Math.min(end, ...others.map((other) => other.get(root) ?? 0))]),
  );
}
