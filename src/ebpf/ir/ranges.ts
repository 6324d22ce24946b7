import type { Node } from './ir.ts';

const ALL = 0xffffffff;

/** What a value cannot exceed, and the bits that it may have. */
export interface Range {
  readonly max: number;
  readonly bits: number;
}

const fill = (max: number): number => (max === 0 ? 0 : ALL >>> Math.clz32(max));
const range = (max: number, bits: number = ALL): Range => {
  const known = (bits & fill(max)) >>> 0;
  return { max: Math.min(max, known), bits: known };
};
const ANY = range(ALL);

function alu(operation: string, a: Range, b: Range, by: Node, forVerifier: boolean): Range {
  switch (operation) {
    case 'add':
      return a.max + b.max > ALL ? ANY : range(a.max + b.max);
    case 'mul':
      return a.max > 0xffff || b.max > 0xffff ? ANY : range(a.max * b.max);
    case 'and':
      return range(Math.min(a.max, b.max), a.bits & b.bits);
    case 'or':
    case 'xor':
      return range(ALL, a.bits | b.bits);
    case 'lsh':
      if (by.op !== 'constant' || by.value > 31 || a.max * 2 ** by.value > ALL) return ANY;
      return range(a.max * 2 ** by.value, a.bits << by.value);
    case 'rsh':
      if (by.op === 'constant' && by.value < 32) return range(a.max >>> by.value, a.bits >>> by.value);
      // Of a shift that may be too long the verifier knows nothing any more.
      return forVerifier && b.max > 31 ? ANY : range(a.max);
    case 'div':
      return forVerifier ? ANY : range(a.max);
    case 'mod':
      return forVerifier ? ANY : range(Math.min(a.max, Math.max(b.max - 1, 0)));
    default:
      return ANY;
  }
}

/** Ranges of values, remembered. `forVerifier`: only what the kernel's verifier finds out by itself, too. */
export class Ranges {
  readonly #known = new Map<Node, Range>();
  readonly #forVerifier: boolean;

  constructor(forVerifier: boolean) {
    this.#forVerifier = forVerifier;
  }

  of(node: Node): Range {
    const known = this.#known.get(node);
    if (known !== undefined) return known;
    const found = this.#find(node);
    this.#known.set(node, found);
    return found;
  }

  #find(node: Node): Range {
    switch (node.op) {
      case 'constant':
        return { max: node.value, bits: node.value };
      case 'load':
        return range(2 ** (8 * node.size) - 1);
      case 'swap':
        // The verifier forgets what it knew of a value whose bytes are reversed.
        return this.#forVerifier ? ANY : range(2 ** (8 * node.size) - 1);
      case 'materialized':
        return this.of(node.args[0]);
      case 'phi': {
        const all = node.args.map((arg) => this.of(arg));
        return range(
          Math.max(...all.map(({ max }) => max)),
          all.reduce((bits, one) => bits | one.bits, 0),
        );
      }
      case 'alu': {
        const [a, b] = node.args;
        return alu(node.operation, this.of(a), this.of(b), b, this.#forVerifier);
      }
      default:
        return ANY;
    }
  }
}
