import { describe, expect, test } from 'vitest';
import {
  alu32,
  alu64,
  assemble,
  call,
  constant,
  decode,
  disassemble,
  EXIT,
  encode,
  goto,
  Helper,
  type Instruction,
  type Item,
  instructionText,
  jump,
  jumpTo,
  label,
  load,
  load64,
  neg32,
  plain,
  register,
  store,
  storeConstant,
  toBigEndian,
  wide,
} from '../../src/ebpf/index.ts';
import { loadInstructions, ProgramType, VerifierError } from '../../src/kernel/index.ts';
import { kernelTest } from '../support/kernel.ts';

const set = (value: number): Item => plain(alu32('mov', 0, constant(value)));
const filler = (count: number): Item[] =>
  Array.from({ length: count }, () => plain(alu32('add', 0, constant(1))));
const runs = (instructions: readonly Instruction[]): number => {
  using loaded = loadInstructions(encode(instructions), { type: ProgramType.xdp });
  return loaded.testRun({ data: new Uint8Array(64) }).retval;
};

describe('assembler', () => {
  test('fills in jumps, leaves out what nothing leads to, and jumps to the next instruction', () => {
    const code = [
      set(0),
      jumpTo(jump('eq', 0, constant(7)), 'seven'),
      goto('end'),
      set(1),
      label('seven'),
      set(7),
      goto('end'),
      label('end'),
      plain(EXIT),
    ];
    expect(disassemble(assemble(code))).toBe(
      [
        '   0: (b4) w0 = 0',
        '   1: (16) if w0 == 0x7 goto pc+1',
        '   2: (05) goto pc+1',
        '   3: (b4) w0 = 7',
        '   4: (95) exit',
        '',
      ].join('\n'),
    );
  });

  test('a 64-bit constant takes two places', () => {
    const instructions = assemble([
      set(0),
      jumpTo(jump('ne', 0, constant(0)), 'end'),
      wide(load64(1, 0x12345678, -1)),
      label('end'),
      plain(EXIT),
    ]);
    expect(instructions[1].off).toBe(2);
    expect(instructionText(instructions[2], instructions[3])).toBe('r1 = 0xffffffff12345678');
  });

  test('a label that is missing, or stands twice', () => {
    expect(() => assemble([goto('nowhere')])).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
    expect(() => assemble([label('a'), label('a'), plain(EXIT)])).toThrow('stands twice');
  });

  test('bytes and back', () => {
    const instructions = assemble([set(-1), plain(store(8, 10, -8, 0)), plain(EXIT)]);
    expect(decode(encode(instructions))).toEqual(instructions);
    expect([...encode([alu64('add', 1, register(2))])]).toEqual([0x0f, 0x21, 0, 0, 0, 0, 0, 0]);
  });

  const forward = [
    set(0),
    ...Array.from({ length: 50 }, (_, one) => jumpTo(jump('eq', 0, constant(one + 5)), 'far')),
    jumpTo(jump('eq', 0, constant(0)), 'far'),
    ...filler(70_000),
    plain(EXIT),
    label('far'),
    set(77),
    plain(EXIT),
  ];
  const back = [
    goto('middle'),
    label('far'),
    set(78),
    plain(EXIT),
    label('end'),
    ...filler(40_000),
    plain(EXIT),
    label('middle'),
    set(0),
    jumpTo(jump('eq', 0, constant(0)), 'far'),
    goto('end'),
  ];
  for (const cpu of [3, 4] as const) {
    kernelTest(`jumps over more than 32,767 instructions, version ${cpu}`, [], () => {
      const instructions = assemble(forward, { cpu });
      // All that go to the same place go over the same trampolines.
      if (cpu === 3) expect(instructions.length).toBeLessThan(forward.length + 20);
      expect(runs(instructions)).toBe(77);
      expect(runs(assemble(back, { cpu }))).toBe(78);
      const long = instructions.filter(({ code }) => code === 0x06);
      expect(long.length > 0).toBe(cpu === 4);
    });
  }
});

describe('disassembler', () => {
  kernelTest('says what the verifier says', [], () => {
    const instructions = [
      alu64('mov', 6, register(1)),
      load(4, 2, 1, 0),
      load(4, 3, 1, 4),
      alu64('mov', 4, register(2)),
      alu64('add', 4, constant(14)),
      { ...jump('gt', 4, register(3), 64), off: 24 },
      load(1, 5, 2, 0),
      load(2, 0, 2, 12),
      load(4, 7, 4, -4),
      load(8, 8, 2, 0),
      toBigEndian(0, 16),
      toBigEndian(7, 32),
      toBigEndian(8, 64),
      neg32(5),
      alu32('mov', 5, constant(-5)),
      ...(['add', 'sub', 'mul', 'or', 'and', 'xor'] as const).map((operation) =>
        alu32(operation, 5, constant(-7)),
      ),
      alu32('div', 5, constant(3)),
      alu32('mod', 5, register(7)),
      alu64('lsh', 5, constant(3)),
      alu32('rsh', 5, register(7)),
      storeConstant(4, 10, -4, -1),
      store(8, 10, -16, 5),
      ...load64(9, 0x11223344, 0x55667788),
      { ...jump('eq', 0, constant(-1)), off: 0 },
      { ...jump('set', 0, register(7)), off: 0 },
      { ...jump('le', 0, constant(7), 64), off: 0 },
      alu64('mov', 1, register(6)),
      call(Helper.xdp_get_buff_len),
      load(4, 0, 1, 0),
      EXIT,
    ];
    let log: string[] = [];
    try {
      loadInstructions(encode(instructions), { type: ProgramType.xdp }).close();
    } catch (error) {
      if (!(error instanceof VerifierError)) throw error;
      log = error.log;
    }
    const said = new Map<string, string>();
    for (const line of log) {
      const found = /^(\d+): \(([0-9a-f]{2})\) (.*?)\s*(?:;.*)?$/.exec(line);
      if (found !== null) said.set(found[1], `(${found[2]}) ${found[3].replace(/ \d+: R.*$/, '').trim()}`);
    }
    const ours = disassemble(instructions)
      .split('\n')
      .map((line) => /^ *(\d+): (.*)$/.exec(line));
    expect(said.size).toBeGreaterThan(30);
    for (const found of ours) {
      const line = found === null ? undefined : said.get(found[1]);
      if (line !== undefined) expect(found?.[2]).toBe(line);
    }
  });

  test('never throws, whatever the bytes', () => {
    let state = 1;
    const bytes = Uint8Array.from({ length: 80_000 }, () => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return state >> 16;
    });
    expect(disassemble(decode(bytes)).split('\n').length).toBeGreaterThan(5000);
  });
});
