import { Ebpf, Helper, type Instruction, isWide } from './instruction.ts';

const OPERATORS: Record<number, string> = {
  [Ebpf.ADD]: '+=',
  [Ebpf.SUB]: '-=',
  [Ebpf.MUL]: '*=',
  [Ebpf.DIV]: '/=',
  [Ebpf.OR]: '|=',
  [Ebpf.AND]: '&=',
  [Ebpf.LSH]: '<<=',
  [Ebpf.RSH]: '>>=',
  [Ebpf.MOD]: '%=',
  [Ebpf.XOR]: '^=',
  [Ebpf.MOV]: '=',
  [Ebpf.ARSH]: 's>>=',
};
const COMPARISONS: Record<number, string> = {
  [Ebpf.JEQ]: '==',
  [Ebpf.JGT]: '>',
  [Ebpf.JGE]: '>=',
  [Ebpf.JSET]: '&',
  [Ebpf.JNE]: '!=',
  [Ebpf.JSGT]: 's>',
  [Ebpf.JSGE]: 's>=',
  [Ebpf.JLT]: '<',
  [Ebpf.JLE]: '<=',
  [Ebpf.JSLT]: 's<',
  [Ebpf.JSLE]: 's<=',
};
const TYPES: Record<number, string> = {
  [Ebpf.W]: 'u32',
  [Ebpf.H]: 'u16',
  [Ebpf.B]: 'u8',
  [Ebpf.DW]: 'u64',
};
const HELPERS = new Map<number, string>(Object.entries(Helper).map(([name, id]) => [id, `bpf_${name}`]));

const signed = (value: number): string => (value < 0 ? String(value) : `+${value}`);
const UNKNOWN = 'unknown';

function arithmetic({ code, dst, src, off, imm }: Instruction): string {
  const wide = (code & 0x07) === Ebpf.ALU64;
  const letter = wide ? 'r' : 'w';
  const operation = code & 0xf0;
  const to = `${letter}${dst}`;
  if (operation === Ebpf.NEG) return `${to} = -${to}`;
  if (operation === Ebpf.END) {
    const name = wide ? 'bswap' : code & Ebpf.X ? 'be' : 'le';
    return `r${dst} = ${name}${imm} r${dst}`;
  }
  const from = `${letter}${src}`;
  if (operation === Ebpf.MOV && off !== 0 && code & Ebpf.X) return `${to} = (s${off})${from}`;
  const operator = OPERATORS[operation];
  if (operator === undefined) return UNKNOWN;
  const sign = off === 1 && (operation === Ebpf.DIV || operation === Ebpf.MOD) ? 's' : '';
  return `${to} ${sign}${operator} ${code & Ebpf.X ? from : imm}`;
}

function jumping({ code, dst, src, off, imm }: Instruction): string {
  const narrow = (code & 0x07) === Ebpf.JMP32;
  const operation = code & 0xf0;
  if (operation === Ebpf.JA) return narrow ? `gotol pc${signed(imm)}` : `goto pc${signed(off)}`;
  if (operation === Ebpf.EXIT) return 'exit';
  if (operation === Ebpf.CALL) {
    if (src === 1) return `call pc${signed(imm)}`;
    if (src === 2) return `call kernel-function#${imm}`;
    return `call ${HELPERS.get(imm) ?? UNKNOWN}#${imm}`;
  }
  const comparison = COMPARISONS[operation];
  if (comparison === undefined) return UNKNOWN;
  const letter = narrow ? 'w' : 'r';
  const operand = code & Ebpf.X ? `${letter}${src}` : `0x${(imm >>> 0).toString(16)}`;
  return `if ${letter}${dst} ${comparison} ${operand} goto pc${signed(off)}`;
}

/** One instruction in the kernel's words; `next` is the second half of a 64-bit constant. */
export function instructionText(instruction: Instruction, next?: Instruction): string {
  const { code, dst, src, off, imm } = instruction;
  const type = TYPES[code & 0x18];
  switch (code & 0x07) {
    case Ebpf.ALU:
    case Ebpf.ALU64:
      return arithmetic(instruction);
    case Ebpf.JMP:
    case Ebpf.JMP32:
      return jumping(instruction);
    case Ebpf.LDX:
      if ((code & 0xe0) === Ebpf.MEM) return `r${dst} = *(${type} *)(r${src} ${signed(off)})`;
      if ((code & 0xe0) === Ebpf.MEMSX)
        return `r${dst} = *(${type.replace('u', 's')} *)(r${src} ${signed(off)})`;
      return UNKNOWN;
    case Ebpf.ST:
      return (code & 0xe0) === Ebpf.MEM ? `*(${type} *)(r${dst} ${signed(off)}) = ${imm}` : UNKNOWN;
    case Ebpf.STX:
      if ((code & 0xe0) === Ebpf.MEM) return `*(${type} *)(r${dst} ${signed(off)}) = r${src}`;
      return (code & 0xe0) === Ebpf.ATOMIC && imm === Ebpf.ADD
        ? `lock *(${type} *)(r${dst} ${signed(off)}) += r${src}`
        : UNKNOWN;
    default: {
      if (!isWide(instruction)) return UNKNOWN;
      const value = (BigInt((next?.imm ?? 0) >>> 0) << 32n) | BigInt(imm >>> 0);
      return `r${dst} = 0x${value.toString(16)}`;
    }
  }
}

/** A program in the notation of the verifier's log and of bpftool, a line per instruction. */
export function disassemble(instructions: readonly Instruction[]): string {
  let text = '';
  for (let at = 0; at < instructions.length; at++) {
    const instruction = instructions[at];
    const code = instruction.code.toString(16).padStart(2, '0');
    text += `${String(at).padStart(4)}: (${code}) ${instructionText(instruction, instructions[at + 1])}\n`;
    if (isWide(instruction)) at++;
  }
  return text;
}
