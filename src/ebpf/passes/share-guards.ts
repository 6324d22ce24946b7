import { type Block, dominators, type Guard, type Ir, mapUses, type Node } from '../ir/ir.ts';
import { Ranges } from '../ir/ranges.ts';
import { LOAD_REACH } from './guard-packet.ts';

/**
 * A guard whose bytes another one has found on every way to it goes away; one that wants more goes on from there. Loads
 * count from the last guard of their root.
 */
export function shareGuards(ir: Ir): void {
  const idom = dominators(ir);
  const last = new Map<Block, Map<Node | undefined, Guard>>();
  /** Bytes from the start of the packet that were found on every way to the end of a block. */
  const found = new Map<Block, number>();
  const instead = new Map<Node, Node>();
  const ranges = new Ranges(true);
  /** What the verifier knows that the root of a guard cannot exceed where the guard has been passed. */
  const most = new Map<Guard, number>();
  const find = (block: Block | undefined, root: Node | undefined): Guard | undefined => {
    for (let at = block; at !== undefined; at = idom.get(at)) {
      const guard = last.get(at)?.get(root);
      if (guard !== undefined) return guard;
    }
    return undefined;
  };
  for (const block of ir.blocks) {
    const own = new Map<Node | undefined, Guard>();
    last.set(block, own);
    let start = block.preds.length === 0 ? 0 : Math.min(...block.preds.map((pred) => found.get(pred) ?? 0));
    block.body = block.body.filter((node) => {
      if (node.op !== 'guard') return true;
      const { root, end } = node;
      const before = find(block, root);
      if (before !== undefined && end <= before.end && before.end - end <= LOAD_REACH) {
        instead.set(node, before);
        return false;
      }
      if (root === undefined && end <= start) return false;
      let bound = 0;
      if (root !== undefined)
        bound =
          before === undefined ? Math.min(ranges.of(root).max, ir.reach - end) : (most.get(before) ?? 0);
      if (before !== undefined && bound + end <= ir.reach) node.args = [before];
      else bound = Math.min(bound, ir.reach - end);
      most.set(node, bound);
      own.set(root, node);
      if (root === undefined) start = Math.max(start, end);
      return true;
    });
    found.set(block, start);
  }
  mapUses(ir, (node) => instead.get(node) ?? node);
}
