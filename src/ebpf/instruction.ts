/** eBPF instructions (Documentation/bpf/standardization/instruction-set.rst): 8 bytes, 64-bit constants take two. */

/** r0 to r9, and r10: the frame pointer. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

/** struct bpf_insn. */
export interface Instruction {
  /** Class, size, mode or operation; see Ebpf. */
  readonly code: number;
  readonly dst: Register;
  readonly src: Register;
  /** Signed, 16 bits. */
  readonly off: number;
  /** Signed, 32 bits. */
  readonly imm: number;
}

/** The parts of `code`. */
export const Ebpf = {
  // classes
  LD: 0x00,
  LDX: 0x01,
  ST: 0x02,
  STX: 0x03,
  ALU: 0x04,
  JMP: 0x05,
  JMP32: 0x06,
  ALU64: 0x07,
  // sizes
  W: 0x00,
  H: 0x08,
  B: 0x10,
  DW: 0x18,
  // modes
  IMM: 0x00,
  MEM: 0x60,
  MEMSX: 0x80,
  ATOMIC: 0xc0,
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
  MOV: 0xb0,
  ARSH: 0xc0,
  END: 0xd0,
  // operations of JMP
  JA: 0x00,
  JEQ: 0x10,
  JGT: 0x20,
  JGE: 0x30,
  JSET: 0x40,
  JNE: 0x50,
  JSGT: 0x60,
  JSGE: 0x70,
  CALL: 0x80,
  EXIT: 0x90,
  JLT: 0xa0,
  JLE: 0xb0,
  JSLT: 0xc0,
  JSLE: 0xd0,
  // second operand
  K: 0x00,
  X: 0x08,
} as const;

/** Helper functions by the number that a call has (enum bpf_func_id). */
export const Helper = {
  map_lookup_elem: 1,
  map_update_elem: 2,
  map_delete_elem: 3,
  ktime_get_ns: 5,
  get_prandom_u32: 7,
  get_smp_processor_id: 8,
  tail_call: 12,
  perf_event_output: 25,
  ktime_get_coarse_ns: 160,
  ringbuf_output: 130,
  xdp_get_buff_len: 188,
  xdp_load_bytes: 189,
} as const;

/** `src` of a 64-bit constant that the kernel replaces (BPF_PSEUDO_*): a map, the address of a map's value. */
export const Pseudo = { MAP_FD: 1, MAP_VALUE: 2 } as const;

export type AluOperation =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'or'
  | 'and'
  | 'lsh'
  | 'rsh'
  | 'mod'
  | 'xor'
  | 'mov';
export type Condition = 'eq' | 'ne' | 'gt' | 'ge' | 'lt' | 'le' | 'set';
/** Bytes of a load or store. */
export type Size = 1 | 2 | 4 | 8;
/** A register, or a constant (32 bits, sign-extended in 64-bit operations). */
export type Operand = { readonly register: Register } | { readonly constant: number };

export const ALU_CODES: Record<AluOperation, number> = {
  add: Ebpf.ADD,
  sub: Ebpf.SUB,
  mul: Ebpf.MUL,
  div: Ebpf.DIV,
  or: Ebpf.OR,
  and: Ebpf.AND,
  lsh: Ebpf.LSH,
  rsh: Ebpf.RSH,
  mod: Ebpf.MOD,
  xor: Ebpf.XOR,
  mov: Ebpf.MOV,
};

export const CONDITION_CODES: Record<Condition, number> = {
  eq: Ebpf.JEQ,
  ne: Ebpf.JNE,
  gt: Ebpf.JGT,
  ge: Ebpf.JGE,
  lt: Ebpf.JLT,
  le: Ebpf.JLE,
  set: Ebpf.JSET,
};

const SIZE_CODES: Record<Size, number> = { 1: Ebpf.B, 2: Ebpf.H, 4: Ebpf.W, 8: Ebpf.DW };

export const register = (register: Register): Operand => ({ register });
export const constant = (constant: number): Operand => ({ constant });

function withOperand(code: number, dst: Register, operand: Operand, off = 0): Instruction {
  return 'register' in operand
    ? { code: code | Ebpf.X, dst, src: operand.register, off, imm: 0 }
    : { code, dst, src: 0, off, imm: operand.constant | 0 };
}

/** 64-bit arithmetic: dst = dst OP operand. */
export const alu64 = (operation: AluOperation, dst: Register, operand: Operand): Instruction =>
  withOperand(Ebpf.ALU64 | ALU_CODES[operation], dst, operand);

/** 32-bit arithmetic; the upper half of `dst` becomes 0. */
export const alu32 = (operation: AluOperation, dst: Register, operand: Operand): Instruction =>
  withOperand(Ebpf.ALU | ALU_CODES[operation], dst, operand);

export const neg32 = (dst: Register): Instruction => ({
  code: Ebpf.ALU | Ebpf.NEG,
  dst,
  src: 0,
  off: 0,
  imm: 0,
});

/** To and from network byte order: the lowest `bits` of `dst`, the rest becomes 0. */
export const toBigEndian = (dst: Register, bits: 16 | 32 | 64): Instruction => ({
  code: Ebpf.ALU | Ebpf.END | Ebpf.X,
  dst,
  src: 0,
  off: 0,
  imm: bits,
});

/** dst = *(size *)(src + off). */
export const load = (size: Size, dst: Register, src: Register, off: number): Instruction => ({
  code: Ebpf.LDX | Ebpf.MEM | SIZE_CODES[size],
  dst,
  src,
  off,
  imm: 0,
});

/** *(size *)(dst + off) = src. */
export const store = (size: Size, dst: Register, off: number, src: Register): Instruction => ({
  code: Ebpf.STX | Ebpf.MEM | SIZE_CODES[size],
  dst,
  src,
  off,
  imm: 0,
});

/** *(size *)(dst + off) = value. */
export const storeConstant = (size: Size, dst: Register, off: number, value: number): Instruction => ({
  code: Ebpf.ST | Ebpf.MEM | SIZE_CODES[size],
  dst,
  src: 0,
  off,
  imm: value | 0,
});

/** Both halves of a 64-bit constant; `kind` says what the kernel makes of it (Pseudo). */
export const load64 = (dst: Register, low: number, high = 0, kind = 0): Instruction[] => [
  { code: Ebpf.LD | Ebpf.IMM | Ebpf.DW, dst, src: kind as Register, off: 0, imm: low | 0 },
  { code: 0, dst: 0, src: 0, off: 0, imm: high | 0 },
];

/** Conditional jump; `off` is filled in by the assembler. */
export const jump = (
  condition: Condition,
  dst: Register,
  operand: Operand,
  bits: 32 | 64 = 32,
): Instruction =>
  withOperand((bits === 32 ? Ebpf.JMP32 : Ebpf.JMP) | CONDITION_CODES[condition], dst, operand);

/** goto; `off` is filled in by the assembler. */
export const GOTO: Instruction = { code: Ebpf.JMP | Ebpf.JA, dst: 0, src: 0, off: 0, imm: 0 };

/** goto with a 32-bit distance (version 4 of the instruction set): `imm` instead of `off`. */
export const GOTO_LONG: Instruction = { code: Ebpf.JMP32 | Ebpf.JA, dst: 0, src: 0, off: 0, imm: 0 };

export const call = (helper: number): Instruction => ({
  code: Ebpf.JMP | Ebpf.CALL,
  dst: 0,
  src: 0,
  off: 0,
  imm: helper,
});

export const EXIT: Instruction = { code: Ebpf.JMP | Ebpf.EXIT, dst: 0, src: 0, off: 0, imm: 0 };

/** Whether it is the first half of a 64-bit constant. */
export const isWide = ({ code }: Instruction): boolean => code === (Ebpf.LD | Ebpf.IMM | Ebpf.DW);

const INSTRUCTION_BYTES = 8;

/** To an array of struct bpf_insn, little-endian, as bpf(2) takes it. */
export function encode(instructions: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(instructions.length * INSTRUCTION_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [index, { code, dst, src, off, imm }] of instructions.entries()) {
    const at = index * INSTRUCTION_BYTES;
    bytes[at] = code;
    bytes[at + 1] = dst | (src << 4);
    view.setInt16(at + 2, off, true);
    view.setInt32(at + 4, imm, true);
  }
  return bytes;
}

/** From an array of struct bpf_insn, little-endian: what a program was loaded from, or its translation. */
export function decode(bytes: Uint8Array): Instruction[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: Math.floor(bytes.length / INSTRUCTION_BYTES) }, (_, index) => {
    const at = index * INSTRUCTION_BYTES;
    return {
      code: bytes[at],
      dst: (bytes[at + 1] & 0xf) as Register,
      src: (bytes[at + 1] >> 4) as Register,
      off: view.getInt16(at + 2, true),
      imm: view.getInt32(at + 4, true),
    };
  });
}
