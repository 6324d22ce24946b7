import { SluiceError } from '../../base/errors.ts';
import {
  Ancillary,
  CBPF_MAX,
  CBPF_WORDS,
  Cbpf,
  type CbpfInstruction,
  type CbpfProgram,
  SkfOffset,
} from './instruction.ts';
import { cbpfLine } from './text.ts';

const { LD, LDX, ST, STX, ALU, JMP, RET, MISC, W, H, B, IMM, ABS, IND, MEM, LEN, MSH, K, X, A } = Cbpf;

/** Each code that exists (chk_code_allowed in net/core/filter.c). */
const CODES: ReadonlySet<number> = new Set([
  ...[W, H, B].flatMap((size) => [LD | size | ABS, LD | size | IND]),
  LD | IMM,
  LD | MEM,
  LD | W | LEN,
  LDX | IMM,
  LDX | MEM,
  LDX | W | LEN,
  LDX | B | MSH,
  ST,
  STX,
  ...[
    Cbpf.ADD,
    Cbpf.SUB,
    Cbpf.MUL,
    Cbpf.DIV,
    Cbpf.OR,
    Cbpf.AND,
    Cbpf.LSH,
    Cbpf.RSH,
    Cbpf.MOD,
    Cbpf.XOR,
  ].flatMap((operation) => [ALU | operation | K, ALU | operation | X]),
  ALU | Cbpf.NEG,
  JMP | Cbpf.JA,
  ...[Cbpf.JEQ, Cbpf.JGT, Cbpf.JGE, Cbpf.JSET].flatMap((operation) => [
    JMP | operation | K,
    JMP | operation | X,
  ]),
  RET | K,
  RET | A,
  MISC | Cbpf.TAX,
  MISC | Cbpf.TXA,
]);

const ANCILLARIES: ReadonlySet<number> = new Set(Object.values(Ancillary));

/** Shared with whatever else refuses an instruction. */
export function invalid(at: number, instruction: CbpfInstruction, what: string): SluiceError {
  return new SluiceError('FILTER_INVALID', `instruction ${at} of the classic BPF program: ${what}`, {
    cause: cbpfLine(instruction, at),
  });
}

function checkInstruction(instruction: CbpfInstruction, at: number, count: number): void {
  const { code, jt, jf } = instruction;
  const k = instruction.k >>> 0;
  const refuse = (what: string): never => {
    throw invalid(at, instruction, what);
  };
  if (!CODES.has(code)) refuse(`there is no code 0x${code.toString(16)}`);
  const operation = code & 0xf0;
  switch (code & 0x07) {
    case ALU:
      if (code & X) break;
      if ((operation === Cbpf.DIV || operation === Cbpf.MOD) && k === 0) refuse('division by zero');
      if ((operation === Cbpf.LSH || operation === Cbpf.RSH) && k > 31) refuse(`shift by ${k} bits`);
      break;
    case JMP:
      // k of a plain jump is unsigned: no jump goes back.
      if (at + 1 + (operation === Cbpf.JA ? k : Math.max(jt, jf)) >= count)
        refuse('jumps past the last instruction');
      break;
    case ST:
    case STX:
      if (k >= CBPF_WORDS) refuse(`there is no M[${k}]`);
      break;
    case LD:
    case LDX:
      if ((code & 0xe0) === MEM && k >= CBPF_WORDS) refuse(`there is no M[${k}]`);
      if ((code & 0xe0) === ABS && k >= SkfOffset.AD && !ANCILLARIES.has(k - SkfOffset.AD))
        refuse(`there is no ancillary load ${k - SkfOffset.AD}`);
      break;
    default:
  }
}

/** Scratch memory that is read must have been written on every way there (check_load_and_stores in the kernel). */
function checkMemory(program: CbpfProgram): void {
  const none = 0xffff;
  const written = new Uint16Array(program.length).fill(none);
  let now = 0;
  for (const [at, instruction] of program.entries()) {
    const { code, jt, jf, k } = instruction;
    now &= written[at];
    const meet = (skip: number): void => {
      written[at + 1 + skip] &= now;
    };
    if (code === ST || code === STX) now |= 1 << k;
    else if ((code === (LD | MEM) || code === (LDX | MEM)) && (now & (1 << k)) === 0)
      throw invalid(at, instruction, `M[${k}] is read before it is written`);
    else if ((code & 0x07) === JMP) {
      if (code === (JMP | Cbpf.JA)) meet(k);
      else {
        meet(jt);
        meet(jf);
      }
      now = none;
    } else if ((code & 0x07) === RET) now = none;
  }
}

/**
 * Refuses (FILTER_INVALID, with the index of the instruction) what the kernel refuses of a classic program
 * (bpf_check_classic): codes that do not exist, jumps out of it, division by 0, shifts by more than 31 bits, scratch
 * memory out of range or read before it is written, no return at the end, more than 4,096 instructions.
 */
export function validateCbpf(program: CbpfProgram): void {
  if (program.length === 0) throw new SluiceError('FILTER_INVALID', 'the classic BPF program is empty');
  if (program.length > CBPF_MAX) {
    const what = `the classic BPF program has ${program.length} instructions; ${CBPF_MAX} are allowed`;
    throw new SluiceError('FILTER_INVALID', what);
  }
  for (const [at, instruction] of program.entries()) checkInstruction(instruction, at, program.length);
  const last = program.length - 1;
  if ((program[last].code & 0x07) !== RET)
    throw invalid(last, program[last], 'the last instruction does not return');
  checkMemory(program);
}
