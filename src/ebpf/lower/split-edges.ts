import type { Block, Ir } from '../ir/ir.ts';

/** A block of its own on each conditional edge to a block with phis: the place for the moves of that edge. */
export function splitEdges(ir: Ir): void {
  let nextId = Math.max(...ir.blocks.map(({ id }) => id)) + 1;
  ir.blocks = ir.blocks.flatMap((block): Block[] => {
    const { end } = block;
    if (end.op !== 'branch') return [block];
    const added: Block[] = [];
    const between = (to: Block): Block => {
      if (to.phis.length === 0) return to;
      const edge: Block = { id: nextId++, preds: [block], phis: [], body: [], end: { op: 'goto', to } };
      to.preds[to.preds.indexOf(block)] = edge;
      added.push(edge);
      return edge;
    };
    block.end = { ...end, yes: between(end.yes), no: between(end.no) };
    return [block, ...added];
  });
}
