import { type Block, dominators, type Ir, isConstant, mapUses, type Node } from '../ir/ir.ts';

const COMMUTATIVE: ReadonlySet<string> = new Set(['add', 'mul', 'and', 'or', 'xor']);

/** What two nodes have in common that compute the same; undefined where they never do. */
function keyOf(node: Node): string | undefined {
  const names = node.args.map((arg) => (arg.op === 'constant' ? `#${arg.value}` : String(arg.id)));
  switch (node.op) {
    case 'alu':
      if (COMMUTATIVE.has(node.operation)) names.sort();
      return `${node.operation} ${names.join()}`;
    case 'load': {
      const [from] = node.args;
      const root = from?.op === 'guard' ? from.root : from;
      return `load ${node.size} ${node.offset} ${root === undefined ? '' : root.id}`;
    }
    case 'swap':
      return `swap ${node.size} ${names[0]}`;
    case 'length':
    case 'interface':
      return node.op;
    case 'materialized':
    case 'nonzero':
      return `${node.op} ${names[0]}`;
    default:
      return undefined;
  }
}

/** What was computed or loaded on every way to a block is not computed or loaded again. */
export function shareValues(ir: Ir): void {
  const idom = dominators(ir);
  const known = new Map<Block, Map<string, Node>>();
  const instead = new Map<Node, Node>();
  const now = (node: Node): Node => instead.get(node) ?? node;
  const find = (block: Block | undefined, key: string): Node | undefined => {
    for (let at = block; at !== undefined; at = idom.get(at)) {
      const found = known.get(at)?.get(key);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  for (const block of ir.blocks) {
    const own = new Map<string, Node>();
    known.set(block, own);
    block.body = block.body.filter((node) => {
      node.args = node.args.map(now);
      if (node.op === 'guard' && node.root !== undefined) node.root = now(node.root);
      const key = keyOf(node);
      if (key === undefined) return true;
      const same = find(block, key);
      if (same === undefined) {
        own.set(key, node);
        return true;
      }
      if (!isConstant(same)) instead.set(node, same);
      return false;
    });
  }
  mapUses(ir, now);
}
