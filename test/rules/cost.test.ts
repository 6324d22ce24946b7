import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  constant,
  EXIT,
  encode,
  goto,
  type Instruction,
  type Item,
  isWide,
  jump,
  jumpTo,
  label,
  plain,
} from '../../src/ebpf/index.ts';
import { compileFilterText } from '../../src/filter/index.ts';
import { compileRules, type RuleProgramOptions } from '../../src/rules/program/compile-rules.ts';
import {
  costOf,
  LIMITS,
  longestPath,
  MOST_CALLS,
  PROGRAM_COST,
  stackOf,
} from '../../src/rules/program/cost.ts';
import { kernelTest } from '../support/kernel.ts';
import { RuleGate, rule } from './support.ts';

const options = (fd: number, more: Partial<RuleProgramOptions> = {}): RuleProgramOptions => ({
  maps: { rules: fd, scratch: fd + 1, matches: fd + 2 },
  slots: { shunt: 1, act: 4, first: 8, count: 28 },
  frameLength: 8,
  ...more,
});

/** A mix of what rules are made of, in languages that we compile ourselves. */
const SET = [
  ...Array.from({ length: 40 }, (_, i) => ['dns', `host${i}.attacked.example`] as const),
  ...Array.from({ length: 2 }, (_, i) => ['suffix', `s${i}.example`] as const),
  ['p0f', '*:64:0:*:mss*20,10:mss,sok,ts,nop,ws:df,id+:0'] as const,
  ['quic', 'quic initial'] as const,
  ['cbpf', '4,40 0 0 12,21 0 1 2054,6 0 0 65535,6 0 0 0'] as const,
].map(([lang, expr], row) => ({ row, program: compileFilterText(expr, lang) }));

const digest = (instructions: readonly Instruction[]) =>
  createHash('sha256').update(encode(instructions)).digest('hex');
/** Descriptors of maps are in 64-bit constants. */
const withoutMaps = (instructions: readonly Instruction[]) =>
  digest(instructions.map((each) => (isWide(each) ? { ...each, imm: 0 } : each)));
const ret = (): Item => plain(EXIT);
const ask = (target: string): Item => jumpTo(jump('eq', 1, constant(0)), target);

describe('what a set of rules costs', () => {
  it('is computed of the rules alone: twice the same programs, byte by byte, and the same split', () => {
    const more = { programSize: 1500 };
    const [one, two] = [compileRules(SET, options(10, more)), compileRules(SET, options(10, more))];
    expect(one.programs.length).toBeGreaterThan(3);
    expect(one.programs.map(({ instructions }) => digest(instructions))).toEqual(
      two.programs.map(({ instructions }) => digest(instructions)),
    );
    expect(two.programs.map(({ slot, switches }) => [slot, switches])).toEqual(
      one.programs.map(({ slot, switches }) => [slot, switches]),
    );
    expect(two.cost).toEqual(one.cost);
  });

  it('does not depend on the maps: their descriptors are all that differs', () => {
    const [one, two] = [compileRules(SET, options(10)), compileRules(SET, options(1000))];
    expect(one.programs.map(({ instructions }) => withoutMaps(instructions))).toEqual(
      two.programs.map(({ instructions }) => withoutMaps(instructions)),
    );
    expect(two.cost).toEqual(one.cost);
  });

  it('says what the programs have', () => {
    const { programs, cost } = compileRules(SET, options(10, { programSize: 1500 }));
    expect(cost.count).toBe(programs.length);
    expect(cost.instructions).toBe(programs.reduce((sum, { instructions }) => sum + instructions.length, 0));
    expect(cost.stackBytes).toBe(Math.max(...programs.map(({ instructions }) => stackOf(instructions))));
    expect(cost.stackBytes).toBeLessThanOrEqual(LIMITS.stack);
    expect(cost.tailCalls).toBeGreaterThan(0);
    expect(cost.tailCalls).toBeLessThanOrEqual(MOST_CALLS);
    expect(cost.longestPath).toBeLessThanOrEqual(Math.max(...programs.map((one) => one.instructions.length)));
    expect(cost.branches).toBeLessThan(cost.longestPath);
    // What the longest way is computed of: all jumps go forward.
    const jumps = programs.flatMap(({ instructions }) => instructions).filter(({ code }) => (code & 7) === 5);
    expect(jumps.length).toBeGreaterThan(cost.branches);
    expect(jumps.filter(({ off }) => off < 0)).toEqual([]);
  });

  it('a set that needs more than there is room for is refused', () => {
    const few = { ...options(10, { programSize: 300 }), slots: { shunt: 1, act: 4, first: 8, count: 2 } };
    expect(() => compileRules(SET, few)).toThrow(/programs and \d+ tail calls in a row; there is room for 2/);
  });
});

describe('the longest way', () => {
  it('is that of the longer side, and ends with the program', () => {
    const code = [ask('a'), ask('b'), ret(), label('a'), ask('b'), ask('b'), label('b'), ret()];
    expect(longestPath(code)).toEqual({ instructions: 4, branches: 3 });
    expect(longestPath([ask('elsewhere'), ret()])).toEqual({ instructions: 2, branches: 1 });
    expect(longestPath([goto('a'), ask('a'), label('a'), ret()])).toEqual({ instructions: 2, branches: 0 });
  });

  it('counts branches as much as they take of the limit', () => {
    const branches = Array.from({ length: 100 }, () => ask('end'));
    expect(costOf([...branches, label('end'), ret()])).toBe(300);
    // Each leads away at once: one way has few of them, however many there are.
    const wide = branches.flatMap((one, i) => [goto(`n${i}`), one, label(`n${i}`)]);
    expect(costOf([...wide, label('end'), ret()])).toBe(201);
  });
});

/** As many jumps in a row: of each mask some bit of a word of the packet must be set. */
function asking(jumps: number, first: number): string {
  const asked = Array.from(
    { length: jumps },
    (_, i) => `69 0 ${jumps - i} ${0x8000_0000 + (first * jumps + i + 1) * 3}`,
  );
  const code = ['32 0 0 14', ...asked, '6 0 0 65535', '6 0 0 0'];
  return [code.length, ...code].join(',');
}

kernelTest('rules with more branches than the verifier follows in one program are split', [], async () => {
  await using gate = new RuleGate({ programs: { chain: true } });
  const set = Array.from({ length: 150 }, (_, i) => rule(`r${i}`, asking(60, i), 'count', { lang: 'cbpf' }));
  const { count, branches, instructions } = await gate.live.apply(set);
  // In instructions they would fit one.
  expect(instructions).toBeLessThan(PROGRAM_COST);
  expect(count).toBe(2);
  expect(branches).toBeLessThanOrEqual(LIMITS.branches);
  expect(branches).toBeGreaterThan(LIMITS.branches / 2);
});
