import { type Ir, isConstant, makeNode, type Node } from '../ir/ir.ts';

/** Puts constants into registers where no instruction takes them, or the verifier would not. */
export function materialize(ir: Ir): void {
  for (const block of ir.blocks) {
    const body: Node[] = [];
    const inRegister = (value: Node): Node => {
      if (!isConstant(value)) return value;
      const node = makeNode(ir, { op: 'materialized', args: [value] });
      body.push(node);
      return node;
    };
    for (const node of block.body) {
      const [a, b] = node.args;
      if ((node.op === 'guard' || node.op === 'nonzero' || node.op === 'load') && a !== undefined) {
        node.args = [inRegister(a)];
      } else if (node.op === 'alu' && b.op === 'constant') {
        const { operation } = node;
        const divides = operation === 'div' || operation === 'mod';
        const shifts = operation === 'lsh' || operation === 'rsh';
        if ((divides && b.value === 0) || (shifts && b.value > 31)) node.args = [a, inRegister(b)];
      }
      body.push(node);
    }
    const { end } = block;
    if (end.op === 'branch' && isConstant(end.args[0]) && isConstant(end.args[1]))
      block.end = { ...end, args: [inRegister(end.args[0]), end.args[1]] };
    block.body = body;
  }
}
