import { describe, expect, test } from 'vitest';
import {
  Ancillary,
  alu32,
  alu64,
  assemble,
  Cbpf,
  compile,
  compileFragment,
  constant,
  decodeCbpf,
  disassemble,
  EXIT,
  encode,
  type Item,
  interpretCbpf,
  label,
  load as loadFrom,
  OPTIONAL_PASSES,
  type Passes,
  plain,
  register,
  SkfOffset,
} from '../../src/ebpf/index.ts';
import { KernelEngine } from '../../src/filter/index.ts';
import { compileFilter, loadInstructions, ProgramType } from '../../src/kernel/index.ts';
import { kernelTest } from '../support/kernel.ts';
import { ANCILLARY_CASES, alu, CASES, type Case, cond, load, RET_A, ret, stmt, TCP } from './cases.ts';
import {
  runCompiled,
  runInterpreter,
  runLibpcap,
  runSocket,
  splitsFrames,
  wantedOfSocket,
} from './engines.ts';
import { flavourOf, Random, randomPacket, randomProgram } from './random-program.ts';

const tcpdump = (expression: string) => decodeCbpf(compileFilter(expression));
const none: Passes = Object.fromEntries(OPTIONAL_PASSES.map((pass) => [pass, false]));

const deep = (at: number) => [load(Cbpf.W, at), RET_A];

const refuses = (program: Parameters<typeof compile>[0], code: string, text: string): void => {
  expect(() => compile(program)).toThrow(
    expect.objectContaining({ code, message: expect.stringContaining(text) }),
  );
};

const surrounding = (program: Parameters<typeof compile>[0], next?: 'match' | 'noMatch'): Item[] => {
  const { code } = compileFragment(program, {
    registers: { data: 7, dataEnd: 8, free: [0, 1, 2], value: 9 },
    match: 'yes',
    noMatch: 'no',
    prefix: 'f.',
    ...(next === undefined ? {} : { next }),
  });
  const yes = [label('yes'), plain(alu64('mov', 0, register(9))), plain(EXIT)];
  const no = [label('no'), plain(alu32('mov', 0, constant(1234))), plain(EXIT)];
  return [
    plain(loadFrom(4, 7, 1, 0)),
    plain(loadFrom(4, 8, 1, 4)),
    ...code,
    ...(next === 'noMatch' ? [...no, ...yes] : [...yes, ...no]),
  ];
};

const runs = (items: Item[], packet: Uint8Array): number => {
  using loaded = loadInstructions(encode(assemble(items)), { type: ProgramType.xdp });
  return loaded.testRun({ data: packet }).retval;
};

const bad = (registers: Parameters<typeof compileFragment>[1]['registers'], frags = false): void => {
  expect(() => compileFragment([ret(1)], { registers, match: 'a', noMatch: 'b', prefix: '', frags })).toThrow(
    RangeError,
  );
};

const each = (name: string, run: (one: Case) => readonly number[], want = (one: Case) => [one.returns]) => {
  test(name, () => {
    for (const one of CASES) expect(run(one), one.name).toEqual(want(one));
  });
};

describe('the table of instructions', () => {
  each('interpreter', ({ program, packet }) => runInterpreter(program, [packet]));
  each('libpcap', ({ program, packet }) => runLibpcap(program, [packet]));
  each(
    'the classic filter of a socket',
    ({ program, packet }) => runSocket(program, [packet]),
    ({ program, packet, returns }) => {
      expect(wantedOfSocket(program, [packet])).toEqual([Math.min(returns, packet.length)]);
      return [Math.min(returns, packet.length)];
    },
  );
  const variants: [string, Passes][] = [
    ['all passes', {}],
    ['no optional pass', none],
    ...OPTIONAL_PASSES.map((pass): [string, Passes] => [`without ${pass}`, { [pass]: false }]),
  ];
  for (const [name, passes] of variants) {
    kernelTest(`eBPF, ${name}`, [], () => {
      for (const { program, packet, returns, name: title } of [...CASES, ...ANCILLARY_CASES]) {
        expect(runCompiled(program, [packet], { passes }), title).toEqual([returns]);
        expect(runCompiled(program, [packet], { passes, frags: true }), title).toEqual([returns]);
        expect(runCompiled(program, [packet], { passes, directAccess: false }), title).toEqual([returns]);
      }
    });
  }
  test('ancillary loads: the interpreter agrees', () => {
    for (const { program, packet, returns, name } of ANCILLARY_CASES)
      expect(interpretCbpf(program, packet), name).toBe(returns);
  });
});

describe('frames in several buffers', () => {
  const frame = Uint8Array.from({ length: 9000 }, (_, index) => index * 7);
  const at = (offset: number): number => new DataView(frame.buffer).getUint32(offset);

  kernelTest('bytes behind the first buffer are read', [], () => {
    for (const offset of [3500, 3502, 3503, 3504, 3520, 5000, 8996])
      expect(runCompiled(deep(offset), [frame], { frags: true }), String(offset)).toEqual([at(offset)]);
    expect(runCompiled(deep(8997), [frame], { frags: true })).toEqual([0]);
    const program = [
      load(Cbpf.H, 4000),
      alu(Cbpf.AND, 0xff),
      stmt(Cbpf.MISC | Cbpf.TAX),
      stmt(0x50, 8000),
      RET_A,
    ];
    expect(runCompiled(program, [frame], { frags: true })).toEqual([interpretCbpf(program, frame)]);
  });

  kernelTest('the length is that of all buffers', [], () => {
    const program = [stmt(Cbpf.LD | Cbpf.LEN), RET_A];
    using loaded = loadInstructions(
      encode(compile(program, { verdicts: 'value', frags: true }).instructions),
      {
        type: ProgramType.xdp,
        flags: 1 << 5,
      },
    );
    expect(loaded.testRun({ data: frame }).retval).toBe(9000);
  });

  kernelTest('without frags such bytes are not there', [], () => {
    using loaded = loadInstructions(encode(compile(deep(3000), { verdicts: 'value' }).instructions), {
      type: ProgramType.xdp,
    });
    expect(loaded.testRun({ data: frame.subarray(0, 3200) }).retval).toBe(at(3000));
    expect(loaded.testRun({ data: frame.subarray(0, 3003) }).retval).toBe(0);
  });

  kernelTest('wherever the first buffer ends', [], ({ skip }) => {
    if (!splitsFrames()) skip('test runs say how long the first buffer is since Linux 6.18');
    const program = tcpdump('tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)');
    const packet = TCP.with(34, 0).with(35, 80).with(46, 0x50);
    expect(interpretCbpf(program, packet)).toBe(262144);
    for (let linear = 0; linear <= packet.length; linear++)
      expect(runCompiled(program, [packet], { frags: true }, linear), String(linear)).toEqual([262144]);
  });
});

describe('what is refused', () => {
  test('what the kernel refuses of a classic program, with the index of the instruction', () => {
    refuses([], 'FILTER_INVALID', 'empty');
    refuses([stmt(0xffff), ret(0)], 'FILTER_INVALID', 'instruction 0');
    refuses([load(Cbpf.B, 0)], 'FILTER_INVALID', 'does not return');
    refuses([cond(Cbpf.JEQ, 0, 0, 9), ret(0)], 'FILTER_INVALID', 'jumps past');
    refuses([stmt(Cbpf.JMP | Cbpf.JA, 0xffffffff), ret(0)], 'FILTER_INVALID', 'jumps past');
    refuses([alu(Cbpf.DIV, 0), ret(0)], 'FILTER_INVALID', 'division by zero');
    refuses([alu(Cbpf.LSH, 32), ret(0)], 'FILTER_INVALID', 'shift by 32');
    refuses([stmt(Cbpf.ST, 16), ret(0)], 'FILTER_INVALID', 'M[16]');
    refuses([stmt(Cbpf.LD | Cbpf.MEM, 1), ret(0)], 'FILTER_INVALID', 'before it is written');
    refuses(
      [load(Cbpf.B, 0), cond(Cbpf.JEQ, 0, 0, 1), stmt(Cbpf.ST, 1), stmt(Cbpf.LD | Cbpf.MEM, 1), ret(0)],
      'FILTER_INVALID',
      'instruction 3',
    );
    refuses(
      Array.from({ length: 4097 }, () => ret(0)),
      'FILTER_INVALID',
      '4097',
    );
    refuses([stmt(Cbpf.LD | Cbpf.ABS, SkfOffset.AD + 2), ret(0)], 'FILTER_INVALID', 'no ancillary load 2');
  });
  test('what XDP does not know', () => {
    for (const name of [
      'PKTTYPE',
      'MARK',
      'QUEUE',
      'RXHASH',
      'CPU',
      'RANDOM',
      'PAY_OFFSET',
      'NLATTR',
    ] as const)
      refuses(
        [ret(0), stmt(Cbpf.LD | Cbpf.ABS, SkfOffset.AD + Ancillary[name]), ret(0)],
        'FILTER_UNSUPPORTED',
        `instruction 1 of the classic BPF program: XDP does not know ${name.toLowerCase()}`,
      );
  });
});

describe('size and shape', () => {
  kernelTest('4,096 instructions, all loads and tests', [], () => {
    const program = Array.from({ length: 4095 }, (_, index) =>
      index % 2 === 0 ? load(Cbpf.B, index % 60) : cond(Cbpf.JEQ, 0xee, 0, 0),
    );
    program.push(ret(5));
    expect(runCompiled(program, [TCP])).toEqual([5]);
    expect(runCompiled(program, [TCP], { passes: none })).toEqual([5]);
  });

  kernelTest('more live values than registers', [], () => {
    const program = [
      ...Array.from({ length: 16 }, (_, word) => [load(Cbpf.W, word + 20), stmt(Cbpf.ST, word)]).flat(),
      stmt(Cbpf.LD | Cbpf.IMM, 0),
      ...Array.from({ length: 16 }, (_, word) => [
        stmt(Cbpf.LDX | Cbpf.MEM, word),
        stmt(Cbpf.ALU | Cbpf.MUL | Cbpf.X),
        stmt(Cbpf.ALU | Cbpf.ADD | Cbpf.X),
      ]).flat(),
      RET_A,
    ];
    for (const options of [{}, { frags: true }, { directAccess: false }, { passes: none }])
      expect(runCompiled(program, [TCP], options)).toEqual([interpretCbpf(program, TCP)]);
  });

  kernelTest('more loaded values than the stack holds', [], () => {
    const bytes = Array.from({ length: 60 }, (_, at) =>
      [0, 1, 2, 3]
        .map((sum) => [
          load(Cbpf.W, at),
          alu(Cbpf.ADD, sum),
          stmt(Cbpf.MISC | Cbpf.TAX),
          load(Cbpf.B, 0),
          stmt(Cbpf.ALU | Cbpf.ADD | Cbpf.X),
          cond(Cbpf.JEQ, 7, 0, 0),
        ])
        .flat(),
    ).flat();
    const program = [...bytes, ...bytes, ret(9)];
    for (const options of [{}, { frags: true }]) expect(runCompiled(program, [TCP], options)).toEqual([9]);
  });

  test('as small as what was written by hand by the same rules', () => {
    const { instructions } = compile(tcpdump('host 10.0.0.1 and tcp port 443'));
    expect(instructions.length).toBeLessThanOrEqual(33);
  });
});

describe('a fragment in a program of ours', () => {
  kernelTest('with registers of its own, whatever stands behind it', [], () => {
    for (const next of ['match', 'noMatch', undefined] as const) {
      const items = surrounding(tcpdump('tcp or udp port 53 or arp'), next);
      expect(runs(items, TCP)).toBe(262144);
      expect(runs(items, TCP.with(23, 99))).toBe(1234);
    }
  });
  kernelTest('three registers are enough for anything', [], () => {
    const program = tcpdump(
      'net 10.0.0.0/8 and tcp[(tcp[12] >> 2) + 4] = 9 or port 80 and ip[2:2] - ip[0] > 9',
    );
    expect(runs(surrounding(program), TCP)).toBe(1234);
  });
  test('registers that do not fit together', () => {
    bad({ data: 1, dataEnd: 1, free: [0, 2, 3] });
    bad({ data: 1, dataEnd: 2, free: [0, 3] });
    bad({ data: 1, dataEnd: 2, free: [0, 3, 10] });
    bad({ data: 1, dataEnd: 2, free: [0, 3, 4] }, true);
    bad({ data: 1, dataEnd: 2, ctx: 5, free: [0, 3, 4] }, true);
  });
});

kernelTest('a program that the verifier does not understand runs with calls only', [], () => {
  // Linux 6.18 refuses the direct form of this one (docs/compiler.md).
  const random = new Random(94685);
  const program = randomProgram(random, flavourOf(random));
  using engine = new KernelEngine(program);
  for (let round = 0; round < 50; round++) {
    const packet = randomPacket(random);
    expect(engine.frame(packet)).toBe(interpretCbpf(program, packet));
  }
});

test('no jump goes back: the machine code of x86-64 would not always come to an end', () => {
  for (let seed = 0; seed < 150; seed++) {
    const random = new Random(seed);
    const program = randomProgram(random, flavourOf(random));
    for (const options of [{}, { frags: true }, { directAccess: false }, { passes: none }])
      for (const { code, off } of compile(program, options).instructions)
        if ((code & 0x07) === 0x05 || (code & 0x07) === 0x06) expect(off).toBeGreaterThanOrEqual(0);
  }
});

test('the same program compiles to the same bytes', () => {
  const once = disassemble(compile(tcpdump('tcp port 80')).instructions);
  expect(disassemble(compile(tcpdump('tcp port 80')).instructions)).toBe(once);
});
