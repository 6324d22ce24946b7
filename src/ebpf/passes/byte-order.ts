import {
  type Alu,
  type Branch,
  constantNode,
  type Ir,
  makeNode,
  type Node,
  reverseBytes,
  type Swap,
} from '../ir/ir.ts';

const BITWISE: ReadonlySet<string> = new Set(['and', 'or', 'xor']);
const maskOf = (size: 2 | 4): number => (size === 2 ? 0xffff : 0xffffffff);

/**
 * Compares in the byte order of the packet: bytes are reversed in constants instead of in values, which moves the
 * reversal behind bitwise operations and out of tests for equality and bits.
 */
export function keepByteOrder(ir: Ir): void {
  const instead = new Map<Node, Node>();
  const now = (node: Node): Node => instead.get(node) ?? node;
  for (const block of ir.blocks) {
    block.body = block.body.flatMap((node): Node[] => {
      node.args = node.args.map(now);
      const moved = node.op === 'alu' ? moveSwap(ir, node) : undefined;
      if (moved === undefined) return [node];
      const [, outer] = moved;
      instead.set(node, outer);
      return moved;
    });
    const { end } = block;
    if (end.op === 'branch') {
      const args: [Node, Node] = [now(end.args[0]), now(end.args[1])];
      block.end = { ...end, args: unswapped(ir, end, args) ?? args };
    } else if (end.op === 'return') block.end = { ...end, args: [now(end.args[0])] };
  }
  for (const { phis } of ir.blocks) for (const phi of phis) phi.args = phi.args.map(now);
}

/** The operand as it would be in the byte order of the packet. */
function reversed(ir: Ir, node: Node, size: 2 | 4): Node | undefined {
  if (node.op === 'swap' && node.size === size) return node.args[0];
  if (node.op === 'constant' && node.value <= maskOf(size))
    return constantNode(ir, reverseBytes(node.value, size));
  return undefined;
}

/** OP(swap a, b) as swap(OP(a, swap b)). */
function moveSwap(ir: Ir, node: Alu): [Node, Swap] | undefined {
  if (!BITWISE.has(node.operation)) return undefined;
  const [a, b] = node.args;
  const size = a.op === 'swap' ? a.size : b.op === 'swap' ? b.size : undefined;
  if (size === undefined) return undefined;
  const masked = (arg: Node): Node =>
    arg.op === 'constant' && node.operation === 'and' ? constantNode(ir, arg.value & maskOf(size)) : arg;
  const [left, right] = [reversed(ir, masked(a), size), reversed(ir, masked(b), size)];
  if (left === undefined || right === undefined) return undefined;
  const inner = makeNode(ir, { op: 'alu', operation: node.operation, args: [left, right] });
  return [inner, makeNode(ir, { op: 'swap', size, args: [inner] })];
}

function unswapped(ir: Ir, { comparison }: Branch, [a, b]: [Node, Node]): [Node, Node] | undefined {
  if (comparison !== 'eq' && comparison !== 'ne' && comparison !== 'set') return undefined;
  if (a.op !== 'swap') return undefined;
  const operand =
    b.op === 'constant' && comparison === 'set' ? constantNode(ir, b.value & maskOf(a.size)) : b;
  const other = reversed(ir, operand, a.size);
  return other === undefined ? undefined : [a.args[0], other];
}
