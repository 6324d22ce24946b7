import {
  ancillaryName,
  CBPF_OPERATIONS,
  Cbpf,
  type CbpfInstruction,
  type CbpfProgram,
} from './instruction.ts';

const hex = (value: number): string => `#0x${(value >>> 0).toString(16)}`;

const SIZES: Record<number, string> = { [Cbpf.W]: '', [Cbpf.H]: 'h', [Cbpf.B]: 'b' };
const CONDITIONS: Record<number, string> = {
  [Cbpf.JEQ]: 'jeq',
  [Cbpf.JGT]: 'jgt',
  [Cbpf.JGE]: 'jge',
  [Cbpf.JSET]: 'jset',
};

function load(name: string, { code, k }: CbpfInstruction): [string, string] {
  const sized = `${name}${SIZES[code & 0x18] ?? '?'}`;
  const offset = k >>> 0;
  switch (code & 0xe0) {
    case Cbpf.IMM:
      return [name, hex(k)];
    case Cbpf.LEN:
      return [name, '#pktlen'];
    case Cbpf.MEM:
      return [name, `M[${offset}]`];
    case Cbpf.ABS:
      return [sized, `[${ancillaryName(k) ?? offset}]`];
    case Cbpf.IND:
      return [sized, `[x + ${offset}]`];
    default:
      return [sized, `4*([${offset}]&0xf)`];
  }
}

function words(instruction: CbpfInstruction, at: number): [string, string] {
  const { code, jt, jf, k } = instruction;
  switch (code & 0x07) {
    case Cbpf.LD:
      return load('ld', instruction);
    case Cbpf.LDX:
      return load('ldx', instruction);
    case Cbpf.ST:
      return ['st', `M[${k >>> 0}]`];
    case Cbpf.STX:
      return ['stx', `M[${k >>> 0}]`];
    case Cbpf.ALU:
      if ((code & 0xf0) === Cbpf.NEG) return ['neg', ''];
      return [CBPF_OPERATIONS[code & 0xf0] ?? 'alu?', code & Cbpf.X ? 'x' : hex(k)];
    case Cbpf.JMP: {
      if ((code & 0xf0) === Cbpf.JA) return ['ja', String(at + 1 + (k >>> 0))];
      const operand = code & Cbpf.X ? 'x' : hex(k);
      return [
        CONDITIONS[code & 0xf0] ?? 'jmp?',
        `${operand.padEnd(16)} jt ${at + 1 + jt}\tjf ${at + 1 + jf}`,
      ];
    }
    case Cbpf.RET:
      return ['ret', code & Cbpf.A ? 'a' : `#${k >>> 0}`];
    default:
      return [(code & 0xf8) === Cbpf.TXA ? 'txa' : 'tax', ''];
  }
}

/** One instruction in the notation of `tcpdump -d`, `at` being its index. */
export function cbpfLine(instruction: CbpfInstruction, at: number): string {
  const [name, operands] = words(instruction, at);
  return `(${String(at).padStart(3, '0')}) ${name.padEnd(8)} ${operands}`.trimEnd();
}

/** A program in the notation of `tcpdump -d`, a line per instruction. */
export function cbpfText(program: CbpfProgram): string {
  return program.map((instruction, at) => `${cbpfLine(instruction, at)}\n`).join('');
}
