import { describe, expect, it } from 'vitest';
import {
  alu32,
  alu64,
  call,
  constant,
  EXIT,
  encode,
  type Instruction,
  jump,
  load,
  load64,
  register,
  store,
  storeConstant,
} from '../../src/ebpf/index.ts';
import { type CodePlace, placesOf } from '../../src/rules/taken/places.ts';
import {
  compilerAbi,
  compileSet,
  expressionHash,
  type ProgramBytes,
  type ProgramSet,
  readSet,
  specializeSet,
} from '../../src/rules/taken/program-set.ts';

const FRAME_LENGTH = 40;
const EXPRESSIONS = [
  ['tcpdump', 'udp dst port 53'],
  ['tcpdump', 'dst host 192.0.2.7 and udp src port 123 and greater 400'],
  ['tcpdump', 'dst host 192.0.2.8 and udp src port 123 and greater 400'],
  ['tcpdump', 'tcp[tcpflags] & tcp-syn != 0 and (vlan 7 or ip6)'],
  ...[11, 12, 13, 14].map((host) => ['tcpdump', `ip dst host 192.0.2.${host}`] as const),
  ['dns', 'name~.example.org'],
] as const;
const RULES = EXPRESSIONS.map(([lang, expr], n) => ({ id: `fleet-r${n}`, revision: 1 + n, lang, expr }));
const bytes = compileSet(RULES, FRAME_LENGTH);
const good = (from: ProgramBytes = bytes): ProgramSet => {
  const set = readSet(from, FRAME_LENGTH);
  if (typeof set === 'string') throw new Error(set);
  return set;
};
const listOf = () =>
  JSON.parse(new TextDecoder().decode(bytes.list)) as {
    rules: unknown[][];
    programs: { slot: number | null; instructions: number; constants: [number, string, unknown][] }[];
  };
const withList = (change: (list: ReturnType<typeof listOf>) => void): ProgramSet | string => {
  const list = listOf();
  change(list);
  return readSet(
    { program: bytes.program, list: new TextEncoder().encode(JSON.stringify(list)) },
    FRAME_LENGTH,
  );
};

describe('a set of programs that goes to other gates', () => {
  it('is the same bytes whenever it is compiled, with nothing of any gate in it', () => {
    const again = compileSet(RULES, FRAME_LENGTH);
    expect(Buffer.compare(again.program, bytes.program)).toBe(0);
    expect(Buffer.compare(again.list, bytes.list)).toBe(0);
    const set = good();
    expect([...set.rules.keys()]).toEqual(RULES.map(({ id }) => id));
    for (const { id, lang, expr } of RULES)
      expect(set.rules.get(id)?.hash).toBe(expressionHash({ lang, expr }));
    for (const { code, constants } of set.programs)
      for (const [at, kind] of constants) if (kind !== 'switch') expect(code[at].imm).toBe(0);
    expect(compilerAbi(FRAME_LENGTH)).not.toBe(compilerAbi(FRAME_LENGTH + 4));
  });

  it('takes maps, slots and rows of a gate; a rule without a row is switched off and names none', () => {
    const { programs, off } = specializeSet(good(), {
      maps: { rules: 11, scratch: 12, matches: 13 },
      slots: { shunt: 1, act: 4, first: 36 },
      rowOf: (rule) => (rule === 1 ? undefined : 500 + rule),
    });
    const rows = new Set<number>();
    const maps = new Set<number>();
    for (const [n, { instructions, switches }] of programs.entries()) {
      for (const [at, kind] of listOf().programs[n].constants) {
        if (kind === 'row') rows.add(instructions[at].imm);
        if (kind === 'matches' || kind === 'scratch' || kind === 'rules') maps.add(instructions[at].imm);
      }
      for (const row of switches) if (row < 500 || row > 599) expect(off.has(row)).toBe(true);
    }
    expect([...maps].sort((a, b) => a - b)).toEqual([11, 12, 13]);
    const known = [...rows].filter((row) => row < 1000);
    expect(known.sort((a, b) => a - b)).toEqual(RULES.flatMap((_, n) => (n === 1 ? [] : 500 + n)));
    // The one that is not for here: far beyond any table.
    expect([...rows].filter((row) => row >= 1000).every((row) => row > 1e9)).toBe(true);
  });

  it.each([
    ['a constant is missing', (l: ReturnType<typeof listOf>) => l.programs[0].constants.pop()],
    ['a constant is twice', (l) => l.programs[0].constants.push(l.programs[0].constants[0])],
    ['a place is moved', (l) => (l.programs[0].constants[2][0] += 1)],
    ['a kind is changed', (l) => (l.programs[0].constants[0][1] = 'scratch')],
    ['a rule that there is not', (l) => setValue(l, 'row', 99)],
    ['a switch of no rule', (l) => setValue(l, 'switch', null)],
    ['a slot that no program has', (l) => setValue(l, 'slot', 3)],
    ['a slot of somebody else', (l) => setValue(l, 'slot', 'exit')],
    ['a map with a number', (l) => setValue(l, 'rules', 7)],
    ['a rule twice', (l) => (l.rules[1][0] = l.rules[0][0])],
    ['a hash that is none', (l) => (l.rules[1][2] = 'x')],
    ['a program that is longer', (l) => l.programs[0].instructions++],
    ['a program that is shorter', (l) => l.programs[0].instructions--],
    ['something beside', (l) => Object.assign(l, { more: 1 })],
  ] as readonly (readonly [string, (list: ReturnType<typeof listOf>) => unknown])[])(
    'a list in which %s is refused',
    (_, change) => {
      expect(withList((list) => void change(list))).toBeTypeOf('string');
    },
  );

  it('any bytes: refused, or the same places', () => {
    const places = good().programs.map(({ constants }) => constants.map(([at]) => at));
    for (let at = 0; at < bytes.program.length; at += 5) {
      const program = bytes.program.slice();
      program[at] ^= 1 << (at % 8);
      const set = readSet({ program, list: bytes.list }, FRAME_LENGTH);
      if (typeof set === 'string') continue;
      expect(set.programs.map(({ constants }) => constants.map(([place]) => place))).toEqual(places);
    }
    for (let at = 0; at < bytes.list.length; at += 17) {
      const list = bytes.list.slice();
      list[at] ^= 0x15;
      readSet({ program: bytes.program, list }, FRAME_LENGTH);
    }
    for (const cut of [0, 1, 7, 8, 800, bytes.program.length - 8])
      expect(readSet({ program: bytes.program.slice(0, cut), list: bytes.list }, FRAME_LENGTH)).toBeTypeOf(
        'string',
      );
  });
});

function setValue(list: ReturnType<typeof listOf>, kind: string, value: unknown): void {
  const found = list.programs[0].constants.find(([, one]) => one === kind);
  if (found === undefined) throw new Error(`no ${kind}`);
  found[2] = value;
}

const isJump = ({ code }: Instruction): boolean =>
  [5, 6].includes(code & 7) && ![0x80, 0x90].includes(code & 0xf0);

describe('what a program from elsewhere may do', () => {
  const [{ code }] = good().programs;
  const places = placesOf(code, FRAME_LENGTH) as CodePlace[];
  const first = (kind: string): number => places.find((place) => place.kind === kind)?.at as number;
  /** Puts instructions in; jumps over the place go farther. */
  const withCode = (at: number, added: readonly Instruction[]): Instruction[] => {
    const moved = code.map((it, from) =>
      isJump(it) && from < at && from + 1 + it.off > at ? { ...it, off: it.off + added.length } : it,
    );
    return [...moved.slice(0, at), ...added, ...moved.slice(at)];
  };
  const changed = (at: number, over: Partial<Instruction>): Instruction[] =>
    code.map((it, index) => (index === at ? { ...it, ...over } : it));
  const note = code.findIndex((it) => it.code === 0x63 && it.dst === 2);
  /** A place between pieces, on the way of an expression: the switch of a rule stands there. */
  const between = first('switch');

  it('is what the compiler makes, with something harmless in it too', () => {
    expect(places.length).toBeGreaterThan(10);
    expect(
      placesOf(withCode(between, [alu32('mov', 0, constant(7)), load(2, 1, 7, 12)]), FRAME_LENGTH),
    ).toHaveLength(places.length);
    expect(placesOf(withCode(between, [store(8, 10, -24, 1)]), FRAME_LENGTH)).toHaveLength(places.length);
  });

  it.each([
    ['writes into the packet', [store(1, 7, 0, 1)]],
    ['writes a constant into the packet', [storeConstant(2, 7, 12, 0)]],
    ['writes through a copy of a pointer', [alu64('mov', 2, register(9)), store(4, 2, 20, 3)]],
    ['notes a row by itself', [storeConstant(4, 9, 20, 5)]],
    ['says how many have matched', [storeConstant(4, 9, 0, 3)]],
    ['writes the count of what was too much', [storeConstant(4, 9, 16, 0)]],
    ['adds in memory', [{ ...store(4, 9, 8, 1), code: 0xc3 }]],
    ['writes beside its stack', [store(8, 10, -8, 1)]],
    ['writes over the row that is handed over', [store(8, 10, -12, 1)]],
    ['writes into the context', [store(4, 6, 0, 1)]],
    ['takes another context', [alu64('mov', 6, register(1))]],
    ['takes other matches', [alu64('mov', 9, register(7))]],
    ['moves its frame', [alu64('add', 10, constant(8))]],
    ['loads over its matches', [load(8, 9, 10, -16)]],
    ['calls a helper (xdp_adjust_head)', [call(44)]],
    ['calls redirect', [call(51)]],
    ['calls a function of its own', [{ ...call(0), src: 1 as const }]],
    ['calls the kernel', [{ ...call(1234), src: 2 as const }]],
    ['calls the look-up as it likes', [call(1)]],
    ['names a map', load64(1, 0, 0, 1)],
    ['names the value of a map', load64(1, 0, 0, 2)],
    ['loads an address', load64(1, 0x1234, 0x5678)],
    ['drops', [alu32('mov', 0, constant(1)), EXIT]],
    ['sends back', [alu32('mov', 0, constant(3)), EXIT]],
    ['returns what it likes', [EXIT]],
    ['loops', [{ ...jump('eq', 1, constant(0)), off: -2 }]],
    ['may loop', [{ code: 0xe5, dst: 0, src: 0, off: 1, imm: 0 }]],
    ['jumps farther than it is long', [{ ...jump('eq', 1, constant(0)), off: 30_000 }]],
    ['loads with a sign', [{ ...load(4, 1, 7, 0), code: 0x81 }]],
    ['casts an address', [{ ...alu64('mov', 1, register(2)), off: 1 }]],
    ['has no such register', [{ ...alu64('mov', 1, register(2)), src: 11 as never }]],
    ['has no instruction', [{ code: 0xff, dst: 0, src: 0, off: 0, imm: 0 }]],
    ['looks its matches up twice', code.slice(1, 9)],
  ] as readonly (readonly [string, readonly Instruction[]])[])('refused: it %s', (_, added) => {
    expect(placesOf(withCode(between, added), FRAME_LENGTH)).toBeTypeOf('string');
  });

  it('refused: changes where maps, slots and rows belong', () => {
    for (const [at, over] of [
      [first('matches'), { imm: 3 }],
      [first('rules'), { imm: 3 }],
      [first('slot'), { imm: 2 }],
      [first('row'), { imm: 7 }],
      [first('rules'), { src: 0 }],
      [first('rules') + 3, { imm: 44 }],
      [note, { off: 24 }],
      [note, { src: 1 }],
      [note - 4, { imm: 3 }],
      [note - 6, { imm: 1000 }],
      [note + 1, { imm: 2 }],
      [0, { src: 2 }],
    ] as const)
      expect(placesOf(changed(at, over as Partial<Instruction>), FRAME_LENGTH), `${at}`).toBeTypeOf('string');
  });

  it('refused: a jump into the middle of noting a row, a row that nobody handed over', () => {
    const into = { ...jump('eq', 1, constant(0)), off: note - 2 - between };
    expect(into.off).toBeGreaterThan(0);
    expect(placesOf(withCode(between, [into]), FRAME_LENGTH)).toBeTypeOf('string');
    const handing = code.findIndex((it) => it.code === 0x62 && it.dst === 10 && it.off === -8);
    expect(handing).toBeGreaterThan(0);
    const without = changed(handing, alu32('mov', 4, constant(0)));
    expect(placesOf(without, FRAME_LENGTH)).toMatch('handed over');
    expect(placesOf([], FRAME_LENGTH)).toBeTypeOf('string');
  });

  it('the bytes are those instructions', () => {
    const all = good().programs.flatMap((program) => [...program.code]);
    expect(Buffer.compare(encode(all), bytes.program)).toBe(0);
  });
});
