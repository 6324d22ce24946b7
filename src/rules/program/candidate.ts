import {
  alu32,
  alu64,
  Cbpf,
  type CbpfProgram,
  compileFragment,
  constant,
  type Item,
  jump,
  jumpTo,
  label,
  load,
  plain,
  register,
  store,
  storeConstant,
} from '../../ebpf/index.ts';
import { SlRuleMatches } from '../layout.gen.ts';
import { CTX, DATA, DATA_END, FREE, LENGTH, MATCHES, ROW, STACK } from './abi.ts';

const { members } = SlRuleMatches;
const MOST = (SlRuleMatches.size - members.rule) / 4 - 1;

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

/** Reads the bounds of the packet anew: the verifier then forgets what it knew, and ways that meet are one way for it. */
export function freshBounds(): Item[] {
  return [plain(load(4, DATA, CTX, 0)), plain(load(4, DATA_END, CTX, 4))];
}

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
  code(program: CbpfProgram, row: number | 'handed over'): Item[] {
    const text = `${this.keyOf(program)} ${row === 'handed over'}`;
    let items = this.#compiled.get(text);
    if (items === undefined) {
      items = [...expression(program), ...note(row === 'handed over'), label('@done')];
      this.#compiled.set(text, items);
    }
    const mine = `x${this.#copies++}`;
    const rename = (name: string): string => mine + name;
    return items.map((item) => {
      if ('label' in item) return label(rename(item.label));
      if (item.target !== undefined) return { ...item, target: rename(item.target) };
      return item.instruction === THE_ROW && row !== 'handed over'
        ? plain(alu32('mov', 3, constant(row)))
        : item;
    });
  }
}

/** Stands for the instruction that has the number of a row in it. */
const THE_ROW = alu32('mov', 3, constant(0));

function expression(program: CbpfProgram): Item[] {
  const length = asksLength(program);
  const fragment = compileFragment(program, {
    registers: { data: DATA, dataEnd: DATA_END, ctx: CTX, free: FREE, ...(length ? { length: LENGTH } : {}) },
    match: '@match',
    noMatch: '@done',
    next: 'match',
    prefix: '@',
    stack: STACK,
  });
  return [
    ...freshBounds(),
    ...(length ? [plain(load(4, LENGTH, MATCHES, members.frame_len))] : []),
    ...fragment.code,
    label('@match'),
  ];
}

function note(handedOver: boolean): Item[] {
  return [
    plain(load(4, 1, MATCHES, members.count)),
    jumpTo(jump('ge', 1, constant(MOST)), '@full'),
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
