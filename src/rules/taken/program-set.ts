import { createHash } from 'node:crypto';
import { z } from 'zod';
import { SluiceError } from '../../base/errors.ts';
import { decode, encode, type Instruction } from '../../ebpf/index.ts';
import { compileFilterText } from '../../filter/index.ts';
import { SlRuleMatches } from '../layout.gen.ts';
import type { RuleMaps } from '../program/abi.ts';
import { compileRules, type RuleProgram } from '../program/compile-rules.ts';
import { MOST_CALLS, type RuleCost } from '../program/cost.ts';
import { RULE_LIMITS, type Rule } from '../spec.ts';
import { PLACE_KINDS, type PlaceKind, placesOf } from './places.ts';

/**
 * What the generated code may rely on, and what is relied on of it: raised whenever the compiler generates other pieces of code, bpf/rules.h
 * changes what they mean, or an expression comes to mean something else.
 */
const COMPILER = 1;
/** Slots of a half (RULE_SLOTS): no set has more programs. */
const MOST_PROGRAMS = 28;
/** Bytes of the programs of a set, and of its list. */
export const MOST_BYTES = 4 << 20;
/** A row that there is not: what notes it has matched nothing. */
const NO_ROW = 0x7fff_ffff;
/** In the slots of a program before it is specialised: the programs of the set themselves follow from FIRST on. */
const [SHUNT, ACT, FIRST] = [1, 2, 8];

/** Two gates that say the same can run each other's programs. @param frameLength as of RuleProgramOptions */
export function compilerAbi(frameLength: number): string {
  const { size, members } = SlRuleMatches;
  const about = JSON.stringify([COMPILER, frameLength, size, Object.entries(members)]);
  return `${COMPILER}-${createHash('sha256').update(about).digest('hex').slice(0, 12)}`;
}

/** Of what is compiled of a rule, 128 bits of SHA-256: whatever else is changed of it, its program stays. */
export function expressionHash({ expr, lang }: Pick<Rule, 'expr' | 'lang'>): string {
  const hash = createHash('sha256').update(`${lang}\n${expr}`).digest();
  return hash.subarray(0, 16).toString('base64url');
}

/** A rule as a desk hands it to the compiler. */
export interface SetRule extends Pick<Rule, 'expr' | 'lang'> {
  /** As gates call it. */
  readonly id: string;
  readonly revision: number;
}

const whole = z.int().min(0);
const list = z.strictObject({
  rules: z
    .array(z.tuple([z.string().max(64), z.int().positive(), z.string().regex(/^[A-Za-z0-9_-]{22}$/)]))
    .min(1)
    .max(RULE_LIMITS.rules),
  /** The one where packets come in is the last. */
  programs: z
    .array(
      z.strictObject({
        /** Its place among the slots, when others of the set go to it. */
        slot: whole.max(MOST_PROGRAMS - 1).nullable(),
        instructions: whole,
        /** Where, what kind, and of a slot or a rule which: by number, of slots also what acts and the shunts. */
        constants: z.array(
          z.tuple([whole, z.enum(PLACE_KINDS), z.union([whole, z.enum(['act', 'shunt'])]).nullable()]),
        ),
      }),
    )
    .min(1)
    .max(MOST_PROGRAMS),
  cost: z.strictObject({
    count: whole.max(MOST_PROGRAMS),
    instructions: whole,
    tailCalls: whole.max(MOST_CALLS),
    stackBytes: whole,
    longestPath: whole,
    branches: whole,
  }),
});
type List = z.output<typeof list>;
type Constant = List['programs'][number]['constants'][number];

/** Programs of a set of rules before they are specialised, and the list of the constants that they lack, as bytes. */
export interface ProgramBytes {
  /** struct bpf_insn, one program after the other. */
  readonly program: Uint8Array;
  /** JSON. */
  readonly list: Uint8Array;
}

/** The same, read and checked. */
export interface ProgramSet {
  readonly programs: readonly (List['programs'][number] & { readonly code: readonly Instruction[] })[];
  /** By id of a rule: its number, and what it was compiled from (expressionHash). */
  readonly rules: ReadonlyMap<string, { readonly number: number; readonly hash: string }>;
  readonly cost: RuleCost;
}

/** What stands at a place as the compiler has left it, where the programs of the set are numbered from FIRST on. */
function valueOf(kind: PlaceKind, imm: number, nextSwitch: () => number): Constant[2] {
  if (kind === 'switch') return nextSwitch();
  if (kind === 'row') return imm;
  if (kind !== 'slot') return null;
  return imm === SHUNT ? 'shunt' : imm === ACT ? 'act' : imm - FIRST;
}

/**
 * Compiles rules for any gate with this ABI: with a list of constants in the place of maps, slots, rows and switches. Pure.
 * @param programSize as of RuleProgramOptions @throws SluiceError RULE, FILTER_UNSUPPORTED, LIMIT
 */
export function compileSet(
  rules: readonly SetRule[],
  frameLength: number,
  programSize?: number,
): ProgramBytes {
  if (rules.length === 0) throw new SluiceError('RULE', 'there are no rules to compile');
  if (rules.length > RULE_LIMITS.rules)
    throw new SluiceError('LIMIT', `there is room for ${RULE_LIMITS.rules} rules`);
  const expressions = rules.map(({ id, expr, lang }, row) => {
    try {
      return { row, program: compileFilterText(expr, lang) };
    } catch (cause) {
      throw new SluiceError('RULE', `the expression of rule ${id} is not valid`, { cause });
    }
  });
  const { programs, cost } = compileRules(expressions, {
    maps: { rules: 0, scratch: 0, matches: 0 },
    slots: { shunt: SHUNT, act: ACT, first: FIRST, count: MOST_PROGRAMS },
    frameLength,
    ...(programSize === undefined ? {} : { programSize }),
  });
  const codes = programs.map(({ instructions }) => instructions.map((one) => ({ ...one })));
  const described = programs.map(({ slot, switches }, index): List['programs'][number] => {
    const code = codes[index];
    let switched = 0;
    const constants = constantsIn(code, frameLength, () => switches[switched++]);
    return { slot: slot === undefined ? null : slot - FIRST, instructions: code.length, constants };
  });
  const said: List = {
    rules: rules.map((rule) => [rule.id, rule.revision, expressionHash(rule)]),
    programs: described,
    cost: { ...cost },
  };
  const bytes = {
    program: encode(codes.flat()),
    list: new TextEncoder().encode(JSON.stringify(said)),
  };
  const read = readSet(bytes, frameLength);
  if (typeof read === 'string')
    throw new SluiceError('LIMIT', `these rules are not one set for all: ${read}`, {
      help: 'edges compile them for themselves',
    });
  return bytes;
}

/** Reads the constants out of a program and leaves 0 in their places. */
function constantsIn(code: Instruction[], frameLength: number, nextSwitch: () => number): Constant[] {
  const places = placesOf(code, frameLength, false);
  if (typeof places === 'string')
    throw new SluiceError('INTERNAL', `a program of rules is not as it should be: ${places}`);
  return places.map(({ at, kind }) => {
    const value = valueOf(kind, code[at].imm, nextSwitch);
    if (kind !== 'switch') code[at] = { ...code[at], imm: 0 };
    return [at, kind, value];
  });
}

function parsed(bytes: Uint8Array): List | string {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return 'the list of constants is not JSON';
  }
  const read = list.safeParse(json);
  if (read.success) return read.data;
  const [issue] = read.error.issues;
  return `the list of constants: ${issue.path.join('.') || 'it'}: ${issue.message}`;
}

/** Whether a constant of the list is one that its place takes. */
function fits(kind: PlaceKind, value: Constant[2], rules: number, slots: ReadonlySet<number>): boolean {
  if (kind === 'slot') return value === 'act' || value === 'shunt' || (value !== null && slots.has(value));
  if (kind === 'row' || kind === 'switch') return typeof value === 'number' && value < rules;
  return value === null;
}

/**
 * Reads what somebody else has compiled, and checks it: each program does no more than rules do (placesOf), the list names the constants that
 * are there, all of them, each with a value that its place may take. A text says why not. Never throws, whatever the bytes are.
 */
export function readSet({ program, list: listed }: ProgramBytes, frameLength: number): ProgramSet | string {
  if (program.length > MOST_BYTES || listed.length > MOST_BYTES)
    return `it is larger than ${MOST_BYTES} bytes`;
  const said = parsed(listed);
  if (typeof said === 'string') return said;
  const all = decode(program);
  const slots = new Set<number>();
  for (const { slot } of said.programs) {
    if (slot === null) continue;
    if (slots.has(slot)) return 'two programs have one slot';
    slots.add(slot);
  }
  const programs: ProgramSet['programs'][number][] = [];
  let from = 0;
  for (const one of said.programs) {
    const code = all.slice(from, from + one.instructions);
    from += one.instructions;
    const places = code.length === one.instructions ? placesOf(code, frameLength) : 'the program is cut';
    if (typeof places === 'string') return places;
    if (places.length !== one.constants.length) return 'the list has other constants than the program';
    for (const [index, { at, kind }] of places.entries()) {
      const [listedAt, listedKind, value] = one.constants[index];
      if (at !== listedAt || kind !== listedKind) return 'the list has other constants than the program';
      if (!fits(kind, value, said.rules.length, slots)) return `${kind} ${value} is none of this set`;
    }
    programs.push({ ...one, code });
  }
  if (from * 8 !== program.length) return 'there is more than the programs of the list';
  const rules = new Map(said.rules.map(([id, , hash], number) => [id, { number, hash }]));
  if (rules.size !== said.rules.length) return 'a rule is there twice';
  return { programs, rules, cost: said.cost };
}

/** What a gate puts into the places of a set. */
export interface Constants {
  readonly maps: RuleMaps;
  /** `act` and `shunt`: where it goes on to with what matches and what does not. `first`: the slot of its own first program. */
  readonly slots: { readonly shunt: number; readonly act: number; readonly first: number };
  /** By number of a rule: its row; undefined: the rule is not for here, is off, or is another one by now. */
  readonly rowOf: (rule: number) => number | undefined;
}

/** Slots that the programs of a set take. */
export const slotsOf = ({ programs }: ProgramSet): number =>
  1 + Math.max(programs.length - 1, ...programs.map(({ slot }) => slot ?? 0));

/**
 * The programs of a set for one gate, ready to be loaded: nothing is compiled. A rule without a row here is switched off (by a row that is not there, which
 * is in `off` for loadRuleProgram), and would match nothing if it were not.
 */
export function specializeSet(
  set: ProgramSet,
  constants: Constants,
): { programs: RuleProgram[]; off: Set<number> } {
  const { maps, slots, rowOf } = constants;
  const value = (kind: PlaceKind, it: Constant[2]): number => {
    if (kind === 'row') return rowOf(it as number) ?? NO_ROW;
    if (kind !== 'slot') return maps[kind as keyof RuleMaps];
    return it === 'act' ? slots.act : it === 'shunt' ? slots.shunt : slots.first + (it as number);
  };
  const programs = set.programs.map(({ slot, code, constants: listed }): RuleProgram => {
    const instructions = [...code];
    const switches: number[] = [];
    for (const [at, kind, it] of listed) {
      if (kind === 'switch') switches.push(rowOf(it as number) ?? NO_ROW);
      else instructions[at] = { ...instructions[at], imm: value(kind, it) };
    }
    return { slot: slot === null ? undefined : slots.first + slot, instructions, switches };
  });
  return { programs, off: new Set([NO_ROW]) };
}

/** SHA-256 of the programs of a set before they are specialised, hexadecimal. */
export const programHash = (program: Uint8Array): string =>
  createHash('sha256').update(program).digest('hex');
