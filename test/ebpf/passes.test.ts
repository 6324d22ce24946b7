import { describe, expect, test } from 'vitest';
import {
  Cbpf,
  type CbpfProgram,
  compile,
  decodeCbpf,
  OPTIONAL_PASSES,
  type OptionalPass,
} from '../../src/ebpf/index.ts';
import { compileFilter } from '../../src/kernel/index.ts';
import { alu, cond, load, RET_A, ret, stmt } from './cases.ts';

const tcpdump = (expression: string) => decodeCbpf(compileFilter(expression));

/** The program as it is with some optional passes only. */
const only = (program: CbpfProgram, ...passes: OptionalPass[]): string =>
  compile(program, {
    passes: Object.fromEntries(OPTIONAL_PASSES.map((pass) => [pass, passes.includes(pass)])),
  }).ir;

const PORT = [
  stmt(Cbpf.LDX | Cbpf.B | Cbpf.MSH, 14),
  stmt(Cbpf.LD | Cbpf.H | Cbpf.IND, 14),
  cond(Cbpf.JEQ, 80, 1, 0),
  ret(0),
  stmt(Cbpf.LD | Cbpf.H | Cbpf.IND, 16),
  cond(Cbpf.JEQ, 80, 0, 1),
  ret(1),
  ret(0),
];

describe('each pass alone', () => {
  test('none: guards before each load and each division', () => {
    expect(only(PORT)).toMatchInlineSnapshot(`
      "b0:
        v12 = guard [15]
        v1 = load u8 [14]
        v3 = and v1, 0xf
        v5 = lsh v3, 2
        v13 = guard [v5 + 16]
        v6 = load u16 [v13 + 14]
        v7 = swap u16 v6
        if v7 == 0x50 goto b2 else b1
      b1: from b0
        goto b5
      b2: from b0
        v14 = guard [v5 + 18]
        v9 = load u16 [v14 + 16]
        v10 = swap u16 v9
        if v10 == 0x50 goto b3 else b4
      b3: from b2
        goto b6
      b4: from b2
        goto b5
      b5: from b1, b4
        return 0
      b6: from b3
        return 1
      "
    `);
    expect(
      only([load(Cbpf.W, 0), stmt(Cbpf.LDX | Cbpf.LEN), stmt(Cbpf.ALU | Cbpf.DIV | Cbpf.X), RET_A]),
    ).toMatchInlineSnapshot(`
      "b0:
        v7 = guard [4]
        v1 = load u32 [0]
        v2 = swap u32 v1
        v3 = length
        v6 = nonzero v3
        v4 = div v2, v3
        if v4 == 0 goto b1 else b2
      b1: from b0
        return 0
      b2: from b0
        return 1
      "
    `);
  });

  test('constants: known values, decided tests, sums as offsets', () => {
    const program = [
      stmt(Cbpf.LDX | Cbpf.B | Cbpf.MSH, 14),
      stmt(Cbpf.MISC | Cbpf.TXA),
      alu(Cbpf.ADD, 20),
      stmt(Cbpf.MISC | Cbpf.TAX),
      cond(Cbpf.JGT, 80, 3, 0),
      stmt(Cbpf.LD | Cbpf.B | Cbpf.IND, 14),
      cond(Cbpf.JEQ, 0x100, 1, 0),
      ret(1),
      ret(2),
    ];
    expect(only(program, 'constants', 'dead-code')).toMatchInlineSnapshot(`
      "b0:
        v14 = guard [15]
        v1 = load u8 [14]
        v3 = and v1, 0xf
        v5 = lsh v3, 2
        goto b1
      b1: from b0
        v15 = guard [v5 + 35]
        goto b2
      b2: from b1
        goto b4
      b4: from b2
        return 1
      "
    `);
  });

  test('constants: a value that a test has pinned', () => {
    const program = [load(Cbpf.B, 23), cond(Cbpf.JEQ, 6, 0, 2), alu(Cbpf.SUB, 6), RET_A, ret(0)];
    expect(only(program, 'constants')).toMatchInlineSnapshot(`
      "b0:
        v7 = guard [24]
        v1 = load u8 [23]
        if v1 == 6 goto b1 else b2
      b1: from b0
        goto b3
      b2: from b0
        goto b3
      b3: from b1, b2
        return 0
      "
    `);
  });

  test('share-values: loads and sums that were there before', () => {
    const program = [
      load(Cbpf.H, 20),
      alu(Cbpf.AND, 0x1fff),
      cond(Cbpf.JEQ, 0, 0, 4),
      load(Cbpf.H, 20),
      alu(Cbpf.AND, 0x1fff),
      cond(Cbpf.JGT, 9, 0, 1),
      ret(0),
      ret(1),
    ];
    expect(only(program, 'share-values', 'dead-code')).toMatchInlineSnapshot(`
      "b0:
        v11 = guard [22]
        v1 = load u16 [20]
        v2 = swap u16 v1
        v4 = and v2, 0x1fff
        if v4 == 0 goto b1 else b3
      b1: from b0
        v12 = guard [22]
        if v4 > 9 goto b2 else b3
      b2: from b1
        goto b4
      b3: from b0, b1
        goto b5
      b4: from b2
        return 0
      b5: from b3
        return 1
      "
    `);
  });

  test('byte-order: constants reversed instead of values', () => {
    const program = [
      load(Cbpf.W, 26),
      alu(Cbpf.AND, 0xffffff00),
      cond(Cbpf.JEQ, 0x0a000100, 0, 1),
      ret(1),
      ret(0),
    ];
    expect(only(program, 'byte-order', 'dead-code')).toMatchInlineSnapshot(`
      "b0:
        v7 = guard [30]
        v1 = load u32 [26]
        v10 = and v1, 0xffffff
        if v10 == 0x1000a goto b1 else b2
      b1: from b0
        goto b3
      b2: from b0
        goto b4
      b3: from b1
        return 1
      b4: from b2
        return 0
      "
    `);
  });

  test('narrow-loads: only the bytes that are compared, all of them guarded', () => {
    const program = [
      load(Cbpf.W, 26),
      alu(Cbpf.AND, 0xffff0000),
      cond(Cbpf.JEQ, 0x0a010000, 0, 1),
      ret(1),
      ret(0),
    ];
    expect(only(program, 'byte-order', 'narrow-loads', 'dead-code')).toMatchInlineSnapshot(`
      "b0:
        v7 = guard [30]
        v1 = load u16 [26]
        if v1 == 0x10a goto b1 else b2
      b1: from b0
        goto b3
      b2: from b0
        goto b4
      b3: from b1
        return 1
      b4: from b2
        return 0
      "
    `);
  });

  test('thread-jumps: over what is known, and to no match at once', () => {
    const program = [
      load(Cbpf.B, 23),
      cond(Cbpf.JEQ, 6, 1, 0),
      cond(Cbpf.JEQ, 17, 0, 3),
      cond(Cbpf.JEQ, 17, 0, 1),
      ret(1),
      ret(2),
      load(Cbpf.B, 60),
      ret(0),
    ];
    expect(only(program, 'thread-jumps')).toMatchInlineSnapshot(`
      "b0:
        v7 = guard [24]
        v1 = load u8 [23]
        if v1 == 6 goto b6 else b1
      b1: from b0
        if v1 == 0x11 goto b6 else b5
      b5: from b1
        return 0
      b6: from b1, b0
        return 1
      "
    `);
  });

  test('widen-guards and share-guards: once for all that every match needs', () => {
    expect(only(PORT, 'constants', 'share-values', 'widen-guards', 'dead-code')).toMatchInlineSnapshot(`
      "b0:
        v12 = guard [15]
        v1 = load u8 [14]
        v3 = and v1, 0xf
        v5 = lsh v3, 2
        v13 = guard [v5 + 18]
        v6 = load u16 [v13 + 14]
        v7 = swap u16 v6
        if v7 == 0x50 goto b2 else b1
      b1: from b0
        goto b5
      b2: from b0
        v14 = guard [v5 + 18]
        v9 = load u16 [v14 + 16]
        v10 = swap u16 v9
        if v10 == 0x50 goto b3 else b4
      b3: from b2
        goto b6
      b4: from b2
        goto b5
      b5: from b1, b4
        return 0
      b6: from b3
        return 1
      "
    `);
    expect(only(PORT, 'constants', 'share-values', 'share-guards', 'dead-code')).toMatchInlineSnapshot(`
      "b0:
        v12 = guard [15]
        v1 = load u8 [14]
        v3 = and v1, 0xf
        v5 = lsh v3, 2
        v13 = guard [v5 + 16]
        v6 = load u16 [v13 + 14]
        v7 = swap u16 v6
        if v7 == 0x50 goto b2 else b1
      b1: from b0
        goto b5
      b2: from b0
        v14 = guard [v5 + 18] from v13
        v9 = load u16 [v14 + 16]
        v10 = swap u16 v9
        if v10 == 0x50 goto b3 else b4
      b3: from b2
        goto b6
      b4: from b2
        goto b5
      b5: from b1, b4
        return 0
      b6: from b3
        return 1
      "
    `);
    expect(
      only(PORT, 'constants', 'share-values', 'widen-guards', 'share-guards', 'dead-code'),
    ).toMatchInlineSnapshot(`
      "b0:
        v12 = guard [15]
        v1 = load u8 [14]
        v3 = and v1, 0xf
        v5 = lsh v3, 2
        v13 = guard [v5 + 18]
        v6 = load u16 [v13 + 14]
        v7 = swap u16 v6
        if v7 == 0x50 goto b2 else b1
      b1: from b0
        goto b5
      b2: from b0
        v9 = load u16 [v13 + 16]
        v10 = swap u16 v9
        if v10 == 0x50 goto b3 else b4
      b3: from b2
        goto b6
      b4: from b2
        goto b5
      b5: from b1, b4
        return 0
      b6: from b3
        return 1
      "
    `);
  });
});

test('all passes', () => {
  expect(compile(tcpdump('udp dst port 53')).ir).toMatchInlineSnapshot(`
    "b0:
      v27 = guard [24]
      v1 = load u16 [12]
      if v1 == 0xdd86 goto b1 else b3
    b1: from b0
      v28 = guard [58] from v27
      v4 = load u8 [20]
      if v4 == 0x11 goto b2 else b8
    b2: from b1
      v6 = load u16 [56]
      if v6 == 0x3500 goto b9 else b8
    b3: from b0
      if v1 == 8 goto b4 else b8
    b4: from b3
      v10 = load u8 [23]
      if v10 == 0x11 goto b5 else b8
    b5: from b4
      v11 = load u16 [20]
      if v11 & 0xff1f goto b8 else b6
    b6: from b5
      v14 = load u8 [14]
      v16 = and v14, 0xf
      v18 = lsh v16, 2
      v33 = guard [v18 + 18]
      v19 = load u16 [v33 + 16]
      if v19 == 0x3500 goto b9 else b8
    b8: from b1, b2, b3, b4, b5, b6
      return 0
    b9: from b6, b2
      return 1
    "
  `);
});
