import { type Ir, isConstant, makeNode, type Node } from '../ir/ir.ts';

/** A guard before each division by a value: division by zero is no match. */
export function guardDivision(ir: Ir): void {
  for (const block of ir.blocks) {
    block.body = block.body.flatMap((node): Node[] => {
      if (node.op !== 'alu' || (node.operation !== 'div' && node.operation !== 'mod')) return [node];
      const [, divisor] = node.args;
      if (isConstant(divisor) && divisor.value !== 0) return [node];
      return [makeNode(ir, { op: 'nonzero', args: [divisor] }), node];
    });
  }
}
