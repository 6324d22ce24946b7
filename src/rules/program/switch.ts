import {
  alu32,
  alu64,
  constant,
  goto,
  type Item,
  jump,
  jumpTo,
  label,
  load,
  plain,
  type Register,
  register,
  type Size,
  toBigEndian,
} from '../../ebpf/index.ts';
import { FARTHEST_FIELD } from '../analysis/graph.ts';
import type { Term } from '../analysis/term.ts';
import { DATA, DATA_END } from './abi.ts';

/** The field's value, and where on the way the address of an IPv4 header is. */
const VALUE: Register = 1;
const BASE: Register = 2;
const END: Register = 3;

/** A number in the byte order that a plain load of this many bytes has here (little-endian). */
function swapped(value: number, size: number): number {
  if (size === 1) return value & 0xff;
  if (size === 2) return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

type Load = Extract<Term, { kind: 'load' }>;

/** The field that a switchable term looks at, and what is done to it. */
function parts(term: Term): {
  field: Load;
  masks: { op: 'and' | 'or'; value: number }[];
} {
  const masks: { op: 'and' | 'or'; value: number }[] = [];
  let at = term;
  while (at.kind === 'alu') {
    if (at.right.kind !== 'const') throw new RangeError(`no switch over ${term.key}`);
    masks.unshift({ op: at.op === '&' ? 'and' : 'or', value: at.right.value });
    at = at.left;
  }
  if (at.kind !== 'load') throw new RangeError(`no switch over ${term.key}`);
  return { field: at, masks };
}

/** What one value of a field leads to. */
export interface Arm {
  readonly value: number;
  readonly target: string;
}

const ALU_NAMES = { '+': 'add', '*': 'mul', '&': 'and', '<<': 'lsh' } as const;

/** Computes the place of a field into r2, in host order. */
function offsetCode(term: Term, short: string): Item[] {
  if (term.kind === 'load') return [...guarded(term, DATA, short), ...toHost(term.size)];
  if (term.kind !== 'alu' || term.right.kind !== 'const' || !(term.op in ALU_NAMES))
    throw new RangeError(`no switch over ${term.key}`);
  const operation = ALU_NAMES[term.op as keyof typeof ALU_NAMES];
  return [...offsetCode(term.left, short), plain(alu32(operation, VALUE, constant(term.right.value)))];
}

const toHost = (size: number): Item[] =>
  size === 1 ? [] : [plain(toBigEndian(VALUE, size === 2 ? 16 : 32))];

/** r1 = a field at a fixed distance from a register; goes to `short` when the packet ends before. */
function guarded({ size, offset }: Load, from: Register, short: string): Item[] {
  return [
    plain(alu64('mov', END, register(from))),
    plain(alu64('add', END, constant(offset + size))),
    jumpTo(jump('gt', END, register(DATA_END), 64), short),
    plain(load(size as Size, VALUE, from, offset)),
  ];
}

/** Loads the field of a switchable term into r1, as it stands in the packet; goes to `short` when the packet ends before. */
function loadField(term: Term, short: string): { code: Item[]; size: number } {
  const { field, masks } = parts(term);
  const { size, base } = field;
  const code =
    base === undefined
      ? guarded(field, DATA, short)
      : [
          ...offsetCode(base, short),
          jumpTo(jump('gt', VALUE, constant(FARTHEST_FIELD)), short),
          plain(alu64('mov', BASE, register(DATA))),
          plain(alu64('add', BASE, register(VALUE))),
          ...guarded(field, BASE, short),
        ];
  for (const { op, value } of masks) code.push(plain(alu32(op, VALUE, constant(swapped(value, size)))));
  return { code, size };
}

/** Arms in the order of the values that are compared: as they stand in the packet. */
function ordered(term: Term, arms: readonly Arm[]): Arm[] {
  const { size } = parts(term).field;
  return arms
    .map(({ value, target }) => ({ value: swapped(value, size), target }))
    .sort((a, b) => a.value - b.value);
}

/** Goes to the arm of the field's value, by halves; to `none` when there is none or the packet is too short. */
export function switchCode(term: Term, arms: readonly Arm[], none: string, fresh: () => string): Item[] {
  const { code } = loadField(term, none);
  const halves = (from: readonly Arm[]): void => {
    if (from.length <= 3) {
      for (const { value, target } of from) code.push(jumpTo(jump('eq', VALUE, constant(value)), target));
      code.push(goto(none));
      return;
    }
    const middle = from.length >> 1;
    const upper = fresh();
    code.push(jumpTo(jump('ge', VALUE, constant(from[middle].value)), upper));
    halves(from.slice(0, middle));
    code.push(label(upper));
    halves(from.slice(middle));
  };
  halves(ordered(term, arms));
  return code;
}

/** A run of arms that one other program holds. */
export interface Range {
  readonly values: readonly number[];
  readonly target: string;
}

/** Splits values into runs that follow each other in the order of comparison. */
export function inOrder(term: Term, values: readonly number[]): number[] {
  const { size } = parts(term).field;
  return values.toSorted((a, b) => swapped(a, size) - swapped(b, size));
}

/** Goes to the range that the field's value falls in; ranges in order, values between two belong to the lower. */
export function rangeCode(term: Term, ranges: readonly Range[], none: string): Item[] {
  const { code, size } = loadField(term, none);
  for (const { values, target } of ranges.toReversed()) {
    code.push(jumpTo(jump('ge', VALUE, constant(swapped(values[0], size))), target));
  }
  code.push(goto(none));
  return code;
}
