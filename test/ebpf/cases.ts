import { Ancillary, Cbpf, type CbpfInstruction, type CbpfProgram, SkfOffset } from '../../src/ebpf/index.ts';

const { LD, LDX, ST, STX, ALU, JMP, RET, MISC, W, H, B, IMM, ABS, IND, MEM, LEN, MSH, K, X, A } = Cbpf;

/** Classic instructions by name. */
export const stmt = (code: number, k = 0): CbpfInstruction => ({ code, jt: 0, jf: 0, k: k >>> 0 });
export const cond = (operation: number, k: number, jt: number, jf: number): CbpfInstruction => ({
  code: JMP | operation,
  jt,
  jf,
  k: k >>> 0,
});
export const RET_A = stmt(RET | A);
export const ret = (k: number): CbpfInstruction => stmt(RET | K, k);
export const load = (size: number, k: number): CbpfInstruction => stmt(LD | size | ABS, k);
export const alu = (operation: number, k: number): CbpfInstruction => stmt(ALU | operation | K, k);
export const aluX = (operation: number): CbpfInstruction => stmt(ALU | operation | X);

export const TCP = Uint8Array.from({ length: 64 }, (_, index) => index);
TCP.set([0x08, 0x00, 0x45], 12);
TCP.set([0, 0, 0x40, 0, 64, 6], 18);
const SHORT = TCP.subarray(0, 20);

export interface Case {
  readonly name: string;
  readonly program: CbpfProgram;
  readonly packet: Uint8Array;
  readonly returns: number;
}

const of = (name: string, program: CbpfProgram, returns: number, packet = TCP): Case => ({
  name,
  program,
  packet,
  returns,
});
const computes = (name: string, steps: readonly CbpfInstruction[], returns: number): Case =>
  of(name, [load(W, 30), ...steps, RET_A], returns);

/** One case and more for each instruction; bytes 30 to 33 of the packet are 0x1e1f2021. */
export const CASES: readonly Case[] = [
  of('ret #0', [ret(0)], 0),
  of('ret #-1', [ret(-1)], 0xffffffff),
  of('a and x begin as 0', [stmt(MISC | Cbpf.TXA), alu(Cbpf.ADD, 7), RET_A], 7),
  of('ldb', [load(B, 33), RET_A], 0x21),
  of('ldh', [load(H, 30), RET_A], 0x1e1f),
  of('ld', [load(W, 30), RET_A], 0x1e1f2021),
  of('the last byte', [load(B, 63), RET_A], 63),
  of('a byte behind the end', [load(B, 64), ret(1)], 0),
  of('a word over the end', [load(W, 61), ret(1)], 0),
  of('a load whose value nobody wants', [load(B, 40), ret(1)], 0, SHORT),
  of(
    'behind a short packet on one way only',
    [load(H, 12), cond(Cbpf.JEQ, 0x800, 0, 1), load(B, 40), ret(1)],
    0,
    SHORT,
  ),
  of(
    'another way of a short packet',
    [load(H, 12), cond(Cbpf.JEQ, 0x800, 1, 0), load(B, 40), ret(1)],
    1,
    SHORT,
  ),
  of('offset 0x8000', [load(B, 0x8000), ret(1)], 0),
  of('offset 0xfffe', [load(B, 0xfffe), ret(1)], 0),
  of('offset 0xffff', [load(W, 0xffff), ret(1)], 0),
  of('offset 0x10000', [load(B, 0x10000), ret(1)], 0),
  of('offset 0x7fffffff', [load(W, 0x7fffffff), ret(1)], 0),
  of('ld #', [stmt(LD | IMM, 0x80000000), RET_A], 0x80000000),
  of('ldx #', [stmt(LDX | IMM, 5), stmt(MISC | Cbpf.TXA), RET_A], 5),
  of('ld #pktlen', [stmt(LD | W | LEN), RET_A], 64),
  of('ldx #pktlen', [stmt(LDX | W | LEN), stmt(MISC | Cbpf.TXA), RET_A], 64),
  of('ldxb 4*([k]&0xf)', [stmt(LDX | B | MSH, 14), stmt(MISC | Cbpf.TXA), RET_A], 20),
  of('ldxb behind the end', [stmt(LDX | B | MSH, 64), ret(1)], 0),
  of('ldb [x + k]', [stmt(LDX | B | MSH, 14), stmt(LD | B | IND, 14), RET_A], 34),
  of('ldh [x + k]', [stmt(LDX | IMM, 20), stmt(LD | H | IND, 10), RET_A], 0x1e1f),
  of('ld [x + k]', [stmt(LDX | IMM, 60), stmt(LD | W | IND, 0), RET_A], 0x3c3d3e3f),
  of('ld [x + k] over the end', [stmt(LDX | IMM, 61), stmt(LD | W | IND, 0), ret(1)], 0),
  of('x larger than any packet', [stmt(LDX | IMM, 0x10000), stmt(LD | B | IND, 0), ret(1)], 0),
  of('x from bytes of the packet', [load(H, 18), stmt(MISC | Cbpf.TAX), stmt(LD | B | IND, 40), RET_A], 40),
  of(
    'x far out, from bytes of the packet',
    [load(W, 30), stmt(MISC | Cbpf.TAX), stmt(LD | B | IND, 1), ret(1)],
    0,
  ),
  of('st, ld M[]', [load(B, 33), stmt(ST, 3), stmt(LD | IMM, 1), stmt(LD | MEM, 3), RET_A], 0x21),
  of(
    'stx, ldx M[]',
    [
      stmt(LDX | IMM, 9),
      stmt(STX, 15),
      stmt(LDX | IMM, 1),
      stmt(LDX | MEM, 15),
      stmt(MISC | Cbpf.TXA),
      RET_A,
    ],
    9,
  ),
  of(
    'different values meet in scratch memory',
    [
      load(B, 23),
      stmt(ST, 0),
      cond(Cbpf.JEQ, 6, 0, 2),
      stmt(LD | IMM, 77),
      stmt(ST, 0),
      stmt(LD | MEM, 0),
      RET_A,
    ],
    77,
  ),
  computes('add', [alu(Cbpf.ADD, 0xf0000000)], 0x0e1f2021),
  computes('add x', [stmt(LDX | IMM, 2), aluX(Cbpf.ADD)], 0x1e1f2023),
  computes('sub below 0', [alu(Cbpf.SUB, 0x1e1f2022)], 0xffffffff),
  computes('mul', [alu(Cbpf.MUL, 0x10)], 0xe1f20210),
  computes('div', [alu(Cbpf.DIV, 0x100)], 0x1e1f20),
  computes('div x', [stmt(LDX | IMM, 0x10000), aluX(Cbpf.DIV)], 0x1e1f),
  computes('div by 0', [stmt(LDX | IMM, 0), aluX(Cbpf.DIV), alu(Cbpf.OR, 1)], 0),
  computes('div by 0 from the packet', [stmt(LDX | B | MSH, 18), aluX(Cbpf.DIV), alu(Cbpf.OR, 1)], 0),
  computes('div as unsigned', [alu(Cbpf.OR, 0x80000000), alu(Cbpf.DIV, 2)], 0x4f0f9010),
  computes('mod', [alu(Cbpf.MOD, 0x100)], 0x21),
  computes('mod by 0', [stmt(LDX | IMM, 0), aluX(Cbpf.MOD), alu(Cbpf.OR, 1)], 0),
  computes('and', [alu(Cbpf.AND, 0xff00)], 0x2000),
  computes('or', [alu(Cbpf.OR, 0xff)], 0x1e1f20ff),
  computes('xor', [alu(Cbpf.XOR, 0xffffffff)], 0xe1e0dfde),
  computes('lsh', [alu(Cbpf.LSH, 8)], 0x1f202100),
  computes('rsh', [alu(Cbpf.RSH, 31), alu(Cbpf.ADD, 3)], 3),
  computes('lsh x', [stmt(LDX | B | MSH, 14), aluX(Cbpf.LSH)], 0x02100000),
  computes('neg', [stmt(ALU | Cbpf.NEG)], 0xe1e0dfdf),
  ...(
    [
      ['jeq', Cbpf.JEQ, 6, 7],
      ['jgt', Cbpf.JGT, 5, 6],
      ['jge', Cbpf.JGE, 6, 7],
      ['jset', Cbpf.JSET, 4, 8],
    ] as const
  ).flatMap(([name, operation, holds, fails]) => [
    of(`${name} holds`, [load(B, 23), cond(operation, holds, 0, 1), ret(3), ret(4)], 3),
    of(`${name} fails`, [load(B, 23), cond(operation, fails, 0, 1), ret(3), ret(4)], 4),
    of(
      `${name} x holds`,
      [load(B, 23), stmt(LDX | IMM, holds), { ...cond(operation | X, 0, 0, 1) }, ret(3), ret(4)],
      3,
    ),
  ]),
  of('jgt as unsigned', [load(W, 30), alu(Cbpf.SUB, 0x1e1f2022), cond(Cbpf.JGT, 1, 0, 1), ret(3), ret(4)], 3),
  of('ja', [stmt(JMP | Cbpf.JA, 1), ret(1), ret(2)], 2),
];

/** What only the kernel knows of, or reads otherwise than libpcap: no table for all engines. */
export const ANCILLARY_CASES: readonly Case[] = [
  of('protocol', [stmt(LD | H | ABS, SkfOffset.AD + Ancillary.PROTOCOL), RET_A], 0x800),
  of(
    'protocol of a frame with a length',
    [stmt(LD | W | ABS, SkfOffset.AD + Ancillary.PROTOCOL), RET_A],
    4,
    TCP.with(12, 0),
  ),
  of(
    'vlan tag beside the frame',
    [stmt(LD | B | ABS, SkfOffset.AD + Ancillary.VLAN_TAG_PRESENT), alu(Cbpf.ADD, 5), RET_A],
    5,
  ),
  of('hatype', [stmt(LD | H | ABS, SkfOffset.AD + Ancillary.HATYPE), RET_A], 1),
  of('xor x', [stmt(LDX | IMM, 3), stmt(LD | W | ABS, SkfOffset.AD + Ancillary.ALU_XOR_X), RET_A], 3),
  of('from the link header', [stmt(LD | B | ABS, SkfOffset.LL + 33), RET_A], 33),
  of('from the network header', [stmt(LD | B | ABS, SkfOffset.NET + 19), RET_A], 33),
];
