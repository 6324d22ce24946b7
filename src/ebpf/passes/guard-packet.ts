import {
  type Block,
  constantNode,
  dropUnreachable,
  endWithReturn,
  type Ir,
  makeNode,
  type Node,
} from '../ir/ir.ts';

/** Farthest that the offset of an eBPF load reaches, less its size. */
export const LOAD_REACH = 32_764;

/** Cuts a block before the first load that no packet can satisfy: no match. */
function cutImpossible(ir: Ir, block: Block): void {
  const at = block.body.findIndex((node) => node.op === 'load' && node.offset + node.size > ir.reach);
  if (at < 0) return;
  block.body.splice(at);
  endWithReturn(block, constantNode(ir, 0));
}

/** A guard before each load of the packet, which then counts from the guard when it does not count from the start. */
export function guardPacket(ir: Ir): void {
  for (const block of ir.blocks) {
    cutImpossible(ir, block);
    block.body = block.body.flatMap((node): Node[] => {
      if (node.op !== 'load') return [node];
      const before: Node[] = [];
      let [root]: (Node | undefined)[] = node.args;
      if (root === undefined && node.offset > LOAD_REACH) {
        // Too far for one instruction: counted from a register.
        root = makeNode(ir, { op: 'materialized', args: [constantNode(ir, node.offset)] });
        before.push(root);
        node.offset = 0;
      }
      const args = root === undefined ? [] : [root];
      const guard = makeNode(ir, { op: 'guard', root, end: node.offset + node.size, args });
      if (root !== undefined) node.args = [guard];
      return [...before, guard, node];
    });
  }
  dropUnreachable(ir);
}

/** With calls instead of direct access, each load looks itself. */
export function guardByCall(ir: Ir): void {
  for (const block of ir.blocks) {
    cutImpossible(ir, block);
    for (const node of block.body) if (node.op === 'load') node.byCall = true;
  }
  dropUnreachable(ir);
}
