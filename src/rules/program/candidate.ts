import {
  alu32,
  alu64,
  Cbpf,
  type CbpfProgram,
  compileFragment,
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
  store,
  storeConstant,
} from '../../ebpf/index.ts';
import { SlRuleMatches } from '../layout.gen.ts';
import { CTX, DATA, DATA_END, FREE, LENGTH, MATCHES, ROW, STACK } from './abi.ts';

const { members } = SlRuleMatches;
/** Rules that one packet can match: what is beyond is counted (SL_RULE_MATCHES). */
export const MOST_MATCHES = (SlRuleMatches.size - members.rule) / 4;

/** Whether a program asks for the length of the packet. */
export function asksLength(program: CbpfProgram): boolean {
  return program.some(
    ({ code }) => code === (Cbpf.LD | Cbpf.W | Cbpf.LEN) || code === (Cbpf.LDX | Cbpf.W | Cbpf.LEN),
  );
}

/**
 * The switch of a rule: a jump whose outcome the verifier knows, since the matches are never a null pointer. As it stands
 * the rule is on; with the opposite condition the verifier removes all of the rule. Nothing is left of the jump itself
 * in either case.
 */
export const RULE_SWITCH = jump('eq', MATCHES, constant(0), 64);
export const RULE_SWITCHED_OFF = jump('ne', MATCHES, constant(0), 64);

/** A switch in a program that is being put together. */
export interface SwitchItem {
  readonly instruction: typeof RULE_SWITCH;
  readonly target: string;
  readonly row: number;
}

export const isSwitchItem = (item: Item): item is SwitchItem => 'row' in item;

/** Goes on to `off` when the rule is switched off. */
export function ruleSwitch(row: number, off: string): SwitchItem {
  return { instruction: RULE_SWITCH, target: off, row };
}

/**
 * Reads the bounds of the packet anew: the verifier then forgets what it knew, and ways that meet are one way for it.
 * `inner`: the packet from the place on that a prefix has found.
 */
export function freshBounds(inner: boolean): Item[] {
  const bounds = [plain(load(4, DATA, CTX, 0)), plain(load(4, DATA_END, CTX, 4))];
  if (!inner) return bounds;
  return [
    ...bounds,
    plain(load(4, 1, MATCHES, members.place)),
    plain(alu64('and', 1, constant(FARTHEST_PLACE))),
    plain(alu64('add', DATA, register(1))),
  ];
}

/** Where the place may be that a prefix finds: a mask. */
const FARTHEST_PLACE = 0x3fff;

/** Leaves the row where an expression that several rules share finds it. */
export function handOver(row: number): Item {
  return plain(storeConstant(4, 10, ROW, row));
}

/** Compiles expressions, each once. */
export class Expressions {
  readonly #compiled = new Map<string, readonly Item[]>();
  readonly #keys = new Map<string, number>();
  #copies = 0;

  /** The same number for the same program. */
  keyOf(program: CbpfProgram): number {
    const text = program.map(({ code, jt, jf, k }) => `${code},${jt},${jf},${k}`).join(' ');
    const known = this.#keys.get(text) ?? this.#keys.size;
    this.#keys.set(text, known);
    return known;
  }

  /** Runs an expression, and notes a rule when it matches: this row, or the one handed over. Goes on to its end in either case. */
  code(program: CbpfProgram, row: number | 'handed over', inner: boolean): Item[] {
    const text = `${this.keyOf(program)} ${row === 'handed over'} ${inner}`;
    let items = this.#compiled.get(text);
    if (items === undefined) {
      items = [...run(program, inner), ...note(row === 'handed over'), label('@done')];
      this.#compiled.set(text, items);
    }
    return this.#copy(items, row === 'handed over' ? THE_ROW : alu32('mov', 3, constant(row)));
  }

  /** Runs a prefix; goes to `found` with its place noted, or falls through. */
  prefix(program: CbpfProgram, found: string): Item[] {
    const items = [
      ...run(program, false, 0),
      plain(alu32('sub', 0, constant(1))),
      jumpTo(jump('gt', 0, constant(FARTHEST_PLACE)), '@done'),
      plain(store(4, MATCHES, members.place, 0)),
      goto('@found'),
      label('@done'),
    ];
    return this.#copy(items, THE_ROW).map((item) =>
      'target' in item && item.target?.endsWith('@found') ? { ...item, target: found } : item,
    );
  }

  #copy(items: readonly Item[], row: typeof THE_ROW): Item[] {
    const mine = `x${this.#copies++}`;
    const rename = (name: string): string => mine + name;
    return items.map((item) => {
      if ('label' in item) return label(rename(item.label));
      if (item.target !== undefined) return { ...item, target: rename(item.target) };
      return item.instruction === THE_ROW ? plain(row) : item;
    });
  }
}

/** Stands for the instruction that has the number of a row in it. */
const THE_ROW = alu32('mov', 3, constant(0));

/** Goes on behind it when the program matches, with what it returns in `value`, and to @done when not. */
function run(program: CbpfProgram, inner: boolean, value?: Register): Item[] {
  const length = asksLength(program);
  const fragment = compileFragment(program, {
    registers: {
      data: DATA,
      dataEnd: DATA_END,
      ctx: CTX,
      free: FREE,
      ...(length ? { length: LENGTH } : {}),
      ...(value === undefined ? {} : { value }),
    },
    match: '@match',
    noMatch: '@done',
    next: 'match',
    prefix: '@',
    stack: STACK,
  });
  return [
    ...freshBounds(inner),
    ...(length ? [plain(load(4, LENGTH, MATCHES, members.frame_len))] : []),
    ...fragment.code,
    label('@match'),
  ];
}

function note(handedOver: boolean): Item[] {
  return [
    plain(load(4, 1, MATCHES, members.count)),
    jumpTo(jump('ge', 1, constant(MOST_MATCHES)), '@full'),
    plain(alu64('mov', 2, register(MATCHES))),
    plain(alu64('mov', 3, register(1))),
    plain(alu64('lsh', 3, constant(2))),
    plain(alu64('add', 2, register(3))),
    plain(handedOver ? load(4, 3, 10, ROW) : THE_ROW),
    plain(store(4, 2, members.rule, 3)),
    label('@full'),
    plain(alu32('add', 1, constant(1))),
    plain(store(4, MATCHES, members.count, 1)),
  ];
}
