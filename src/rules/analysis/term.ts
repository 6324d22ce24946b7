import { plainOffset } from '../../ebpf/cbpf/interpret.ts';

/**
 * What a classic program has in A or X, as a term over the packet: two programs that look at the same field have the
 * same term, however they came by it. Terms are compared by their key.
 */
export type Term =
  | { readonly kind: 'const'; readonly key: string; readonly value: number }
  | { readonly kind: 'length'; readonly key: string }
  | {
      readonly kind: 'load';
      readonly key: string;
      /** Bytes: 1, 2 or 4. */
      readonly size: number;
      readonly offset: number;
      /** Added to the offset. */
      readonly base: Term | undefined;
    }
  | {
      readonly kind: 'alu';
      readonly key: string;
      readonly op: AluOp;
      readonly left: Term;
      readonly right: Term;
    };

export type AluOp = '+' | '-' | '*' | '/' | '|' | '&' | '<<' | '>>' | '%' | '^';

const SIZE_NAMES: Record<number, string> = { 1: 'b', 2: 'h', 4: 'w' };

export const LENGTH: Term = { kind: 'length', key: 'len' };

export function constant(value: number): Term {
  const unsigned = value >>> 0;
  return { kind: 'const', key: `#${unsigned}`, value: unsigned };
}

export function load(size: number, offset: number, base?: Term): Term {
  if (base?.kind === 'const') return load(size, offset + base.value);
  const at = base === undefined ? plainOffset(offset) : offset;
  const where = base === undefined ? `${at}` : `${base.key}+${at}`;
  return { kind: 'load', key: `${SIZE_NAMES[size]}[${where}]`, size, offset: at, base };
}

/** As libpcap's interpreter computes it; undefined: a division by zero, which ends a program without a match. */
export function compute(op: AluOp, a: number, b: number): number | undefined {
  return OPERATIONS[op](a, b);
}

const OPERATIONS: Record<AluOp, (a: number, b: number) => number | undefined> = {
  '+': (a, b) => (a + b) >>> 0,
  '-': (a, b) => (a - b) >>> 0,
  '*': (a, b) => Math.imul(a, b) >>> 0,
  '/': (a, b) => (b === 0 ? undefined : Math.floor(a / b)),
  '%': (a, b) => (b === 0 ? undefined : a % b),
  '|': (a, b) => (a | b) >>> 0,
  '&': (a, b) => (a & b) >>> 0,
  '^': (a, b) => (a ^ b) >>> 0,
  '<<': (a, b) => (b > 31 ? 0 : (a << b) >>> 0),
  '>>': (a, b) => (b > 31 ? 0 : a >>> b),
};

export function alu(op: AluOp, left: Term, right: Term): Term {
  if (left.kind === 'const' && right.kind === 'const') {
    const value = compute(op, left.value, right.value);
    if (value !== undefined) return constant(value);
  }
  if (op === '+' && right.kind === 'const' && right.value === 0) return left;
  if (op === '+' && left.kind === 'const' && left.value === 0) return right;
  return { kind: 'alu', key: `(${left.key}${op}${right.key})`, op, left, right };
}

/** What is known of a packet: the value of terms, by their keys. */
export type Facts = ReadonlyMap<string, number>;

/** The value of a term, as far as `known` tells of the values of others. */
export function evaluate(term: Term, known: (key: string) => number | undefined): number | undefined {
  if (term.kind === 'const') return term.value;
  const value = known(term.key);
  if (value !== undefined || term.kind !== 'alu') return value;
  const left = evaluate(term.left, known);
  const right = left === undefined ? undefined : evaluate(term.right, known);
  return left === undefined || right === undefined ? undefined : compute(term.op, left, right);
}
