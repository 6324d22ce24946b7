/**
 * Classic BPF as the kernel and libpcap have it (linux/bpf_common.h, linux/filter.h): an accumulator A, an index
 * register X, 16 words of scratch memory, forward jumps only.
 */

/** struct sock_filter. */
export interface CbpfInstruction {
  /** Class, size, mode or operation; see Cbpf. 16 bits. */
  readonly code: number;
  /** Instructions to skip when the condition holds, and when not. 8 bits each. */
  readonly jt: number;
  readonly jf: number;
  /** 32 bits, unsigned. */
  readonly k: number;
}

export type CbpfProgram = readonly CbpfInstruction[];

/** The parts of `code`. */
export const Cbpf = {
  // classes
  LD: 0x00,
  LDX: 0x01,
  ST: 0x02,
  STX: 0x03,
  ALU: 0x04,
  JMP: 0x05,
  RET: 0x06,
  MISC: 0x07,
  // sizes of loads
  W: 0x00,
  H: 0x08,
  B: 0x10,
  // modes of loads
  IMM: 0x00,
  ABS: 0x20,
  IND: 0x40,
  MEM: 0x60,
  LEN: 0x80,
  MSH: 0xa0,
  // operations of ALU
  ADD: 0x00,
  SUB: 0x10,
  MUL: 0x20,
  DIV: 0x30,
  OR: 0x40,
  AND: 0x50,
  LSH: 0x60,
  RSH: 0x70,
  NEG: 0x80,
  MOD: 0x90,
  XOR: 0xa0,
  // operations of JMP
  JA: 0x00,
  JEQ: 0x10,
  JGT: 0x20,
  JGE: 0x30,
  JSET: 0x40,
  // operand of ALU and JMP; what RET returns
  K: 0x00,
  X: 0x08,
  A: 0x10,
  // operations of MISC
  TAX: 0x00,
  TXA: 0x80,
} as const;

/** The operations of ALU that have two operands, by their bits, as bpf_asm calls them (kernel: tools/bpf/bpf_asm.c). */
export const CBPF_OPERATIONS: Readonly<
  Record<number, 'add' | 'sub' | 'mul' | 'div' | 'or' | 'and' | 'lsh' | 'rsh' | 'mod' | 'xor'>
> = {
  [Cbpf.ADD]: 'add',
  [Cbpf.SUB]: 'sub',
  [Cbpf.MUL]: 'mul',
  [Cbpf.DIV]: 'div',
  [Cbpf.OR]: 'or',
  [Cbpf.AND]: 'and',
  [Cbpf.LSH]: 'lsh',
  [Cbpf.RSH]: 'rsh',
  [Cbpf.MOD]: 'mod',
  [Cbpf.XOR]: 'xor',
};

/** Instructions that a program may have (BPF_MAXINSNS). */
export const CBPF_MAX = 4096;
/** Words of scratch memory (BPF_MEMWORDS). */
export const CBPF_WORDS = 16;

/** Where loads of the kernel's own begin (SKF_*_OFF), as unsigned numbers. */
export const SkfOffset = { AD: 0xfffff000, NET: 0xfff00000, LL: 0xffe00000 } as const;

/** Ancillary loads (SKF_AD_*): what is added to SkfOffset.AD. */
export const Ancillary = {
  PROTOCOL: 0,
  PKTTYPE: 4,
  IFINDEX: 8,
  NLATTR: 12,
  NLATTR_NEST: 16,
  MARK: 20,
  QUEUE: 24,
  HATYPE: 28,
  RXHASH: 32,
  CPU: 36,
  ALU_XOR_X: 40,
  VLAN_TAG: 44,
  VLAN_TAG_PRESENT: 48,
  PAY_OFFSET: 52,
  RANDOM: 56,
  VLAN_TPID: 60,
} as const;

/** Lower-case name of an ancillary load, or undefined when `k` is none. */
export function ancillaryName(k: number): string | undefined {
  const offset = (k >>> 0) - SkfOffset.AD;
  return Object.entries(Ancillary)
    .find(([, at]) => at === offset)?.[0]
    .toLowerCase();
}

const INSTRUCTION_BYTES = 8;

/** From an array of struct sock_filter in this machine's byte order (little-endian). */
export function decodeCbpf(bytes: Uint8Array): CbpfProgram {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = Math.floor(bytes.length / INSTRUCTION_BYTES);
  return Array.from({ length: count }, (_, index) => {
    const at = index * INSTRUCTION_BYTES;
    return {
      code: view.getUint16(at, true),
      jt: view.getUint8(at + 2),
      jf: view.getUint8(at + 3),
      k: view.getUint32(at + 4, true),
    };
  });
}

/** To an array of struct sock_filter, as SO_ATTACH_FILTER and libpcap take it. */
export function encodeCbpf(program: CbpfProgram): Uint8Array {
  const bytes = new Uint8Array(program.length * INSTRUCTION_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [index, { code, jt, jf, k }] of program.entries()) {
    const at = index * INSTRUCTION_BYTES;
    view.setUint16(at, code, true);
    view.setUint8(at + 2, jt);
    view.setUint8(at + 3, jf);
    view.setUint32(at + 4, k >>> 0, true);
  }
  return bytes;
}
