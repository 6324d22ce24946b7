import {
  type Alu,
  arithmetic,
  type Block,
  type Branch,
  compare,
  constantNode,
  dominators,
  dropUnreachable,
  type Ir,
  isConstant,
  MIRRORED,
  makeNode,
  type Node,
  removeEdge,
  reverseBytes,
} from '../ir/ir.ts';
import { Ranges } from '../ir/ranges.ts';

const COMMUTATIVE: ReadonlySet<string> = new Set(['add', 'mul', 'and', 'or', 'xor']);

/**
 * Computes what is known before a packet comes: constants, values that an equality has pinned, comparisons that ranges
 * decide, offsets that are a value plus a constant. Ways that are never taken go away.
 */
export function propagateConstants(ir: Ir): void {
  const pass = new Propagation(ir);
  const idom = dominators(ir);
  for (const block of ir.blocks) pass.visit(block, idom.get(block));
  dropUnreachable(ir);
}

class Propagation {
  readonly #ir: Ir;
  readonly #ranges = new Ranges(false);
  /** What stands for a node from now on. */
  readonly #instead = new Map<Node, Node>();
  /** Values that are pinned in a block and those that it dominates. */
  readonly #pinned = new Map<Block, Map<Node, Node>>();

  constructor(ir: Ir) {
    this.#ir = ir;
  }

  visit(block: Block, above: Block | undefined): void {
    if (above !== undefined && block.preds.length === 0) {
      // Not reached any more, and neither is what only it leads to.
      if (block.end.op === 'goto') removeEdge(block, block.end.to);
      else if (block.end.op === 'branch') {
        removeEdge(block, block.end.yes);
        removeEdge(block, block.end.no);
      }
      block.phis = [];
      block.body = [];
      block.end = { op: 'return', args: [constantNode(this.#ir, 0)] };
      return;
    }
    const pins = this.#pins(block, above);
    this.#pinned.set(block, pins);
    const now = (node: Node): Node => {
      const known = this.#instead.get(node) ?? node;
      return pins.get(known) ?? known;
    };
    block.phis = block.phis.filter((phi) => {
      phi.args = phi.args.map((arg) => this.#instead.get(arg) ?? arg);
      const [first] = phi.args;
      const same = phi.args.every(
        (arg) => arg === first || (arg.op === 'constant' && isConstant(first, arg.value)),
      );
      if (same) this.#instead.set(phi, first);
      return !same;
    });
    block.body = block.body.flatMap((node): Node[] => {
      node.args = node.args.map(now);
      const better = this.#simplify(node);
      if (better !== node) this.#instead.set(node, now(better));
      if (better.op === 'constant' || node.args.includes(better)) return [];
      this.#ranges.of(better);
      return [better];
    });
    const { end } = block;
    if (end.op === 'return') block.end = { ...end, args: [now(end.args[0])] };
    else if (end.op === 'branch') this.#branch(block, end, now);
  }

  /** What is pinned where `block` begins. */
  #pins(block: Block, above: Block | undefined): Map<Node, Node> {
    const pins = new Map(above === undefined ? [] : this.#pinned.get(above));
    const [pred] = block.preds;
    if (block.preds.length !== 1 || pred.end.op !== 'branch') return pins;
    const { comparison, args } = pred.end;
    const taken = comparison === 'eq' ? pred.end.yes : pred.end.no;
    if ((comparison === 'eq' || comparison === 'ne') && taken === block && args[1].op === 'constant')
      pins.set(args[0], args[1]);
    return pins;
  }

  #branch(block: Block, end: Branch, now: (node: Node) => Node): void {
    let [a, b] = end.args.map(now);
    let { comparison } = end;
    if (a.op === 'constant' && b.op !== 'constant') {
      [a, b] = [b, a];
      comparison = MIRRORED[comparison];
    }
    const decided = this.#decide(comparison, a, b);
    if (decided === undefined) {
      block.end = { ...end, comparison, args: [a, b] };
      return;
    }
    removeEdge(block, decided ? end.no : end.yes);
    block.end = { op: 'goto', to: decided ? end.yes : end.no };
  }

  #decide(comparison: Branch['comparison'], a: Node, b: Node): boolean | undefined {
    if (a.op === 'constant' && b.op === 'constant') return compare(comparison, a.value, b.value);
    if (a === b && comparison !== 'set') return compare(comparison, 0, 0);
    if (b.op !== 'constant') return undefined;
    const { max, bits } = this.#ranges.of(a);
    switch (comparison) {
      case 'eq':
      case 'ne':
        return b.value > max || (b.value & ~bits) !== 0 ? comparison === 'ne' : undefined;
      case 'gt':
        return max <= b.value ? false : undefined;
      case 'ge':
        return b.value === 0 ? true : max < b.value ? false : undefined;
      case 'lt':
        return b.value === 0 ? false : max < b.value ? true : undefined;
      case 'le':
        return max <= b.value ? true : undefined;
      default:
        return (bits & b.value) === 0 ? false : undefined;
    }
  }

  /** A node that stands for this one: a constant, one of its arguments, a new one, or itself. */
  #simplify(node: Node): Node {
    if (node.op === 'swap' && node.args[0].op === 'constant')
      return constantNode(this.#ir, reverseBytes(node.args[0].value, node.size));
    if (node.op === 'load') {
      this.#foldOffset(node);
      return node;
    }
    return node.op === 'alu' ? this.#arithmetic(node) : node;
  }

  #arithmetic(node: Alu): Node {
    const { operation } = node;
    let [a, b] = node.args;
    if (a.op === 'constant' && b.op !== 'constant' && COMMUTATIVE.has(operation)) [a, b] = [b, a];
    node.args = [a, b];
    if (b.op !== 'constant')
      return a === b && (operation === 'sub' || operation === 'xor') ? this.#constant(0) : node;
    const { value } = b;
    if (value === 0 && (operation === 'div' || operation === 'mod')) return node;
    if (a.op === 'constant') return this.#constant(arithmetic(operation, a.value, value));
    const { bits, max } = this.#ranges.of(a);
    switch (operation) {
      case 'and':
        if ((bits & value) === 0) return this.#constant(0);
        if ((bits & ~value) === 0) return a;
        break;
      case 'mul':
        if (value === 0) return b;
        if (value === 1) return a;
        break;
      case 'div':
        if (value === 1) return a;
        break;
      case 'mod':
        if (max < value) return a;
        break;
      case 'lsh':
      case 'rsh':
        if (value > 31) return this.#constant(0);
        if (value === 0) return a;
        break;
      default:
        if (value === 0) return a;
    }
    return this.#reassociate(node, a, value) ?? node;
  }

  /** (a OP c) OP d as a OP (c OP d). */
  #reassociate(node: Alu, a: Node, value: number): Node | undefined {
    const { operation } = node;
    if (a.op !== 'alu' || a.operation !== operation || a.args[1].op !== 'constant') return undefined;
    if (!COMMUTATIVE.has(operation)) return undefined;
    const joined = this.#constant(arithmetic(operation, a.args[1].value, value));
    return makeNode(this.#ir, { op: 'alu', operation, args: [a.args[0], joined] });
  }

  /** [(root + c) + k] as [root + (c + k)], where the first sum cannot wrap around; a constant root is an offset. */
  #foldOffset(node: Node & { op: 'load' }): void {
    const [root] = node.args;
    if (root === undefined) return;
    if (root.op === 'constant') {
      node.offset += root.value;
      node.args = [];
    } else if (root.op === 'alu' && root.operation === 'add' && root.args[1].op === 'constant') {
      const [inner, added] = root.args as [Node, Node & { op: 'constant' }];
      if (this.#ranges.of(inner).max + added.value > 0xffffffff) return;
      node.offset += added.value;
      node.args = [inner];
    }
  }

  #constant(value: number): Node {
    return constantNode(this.#ir, value);
  }
}
