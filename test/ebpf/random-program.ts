import { CBPF_WORDS, Cbpf, type CbpfInstruction, type CbpfProgram } from '../../src/ebpf/index.ts';

/** Numbers that a seed gives (xorshift32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) >>> 0 || 1;
    for (let warm = 0; warm < 4; warm++) this.below(2);
  }

  below(limit: number): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return Math.floor((this.#state / 4294967296) * limit);
  }

  chance(share: number): boolean {
    return this.below(1_000_000) < share * 1_000_000;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)];
  }
}

const { LD, LDX, ST, STX, ALU, JMP, RET, MISC, W, H, B, IMM, ABS, IND, MEM, LEN, MSH, K, X, A } = Cbpf;
const OPERATIONS = [
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
];
const CONDITIONS = [Cbpf.JEQ, Cbpf.JGT, Cbpf.JGE, Cbpf.JSET];
/** Numbers at which something changes. */
const EDGES = [
  0, 1, 2, 3, 4, 5, 6, 8, 12, 14, 15, 16, 17, 23, 26, 30, 31, 32, 34, 53, 60, 64, 80, 0x7f, 0x80, 0xff, 0x100,
  0x443, 0x800, 0x806, 0x86dd, 0xfff8, 0xfffe, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xff000000,
  0xffff0000, 0xfffffff0, 0xffffffff,
];

/** What to make more of. */
export interface Flavour {
  readonly length: number;
  /** Share of offsets that no packet reaches, of loads from X, of conditions. */
  readonly far: number;
  readonly indirect: number;
  readonly jumps: number;
}

export const flavourOf = (random: Random): Flavour => ({
  length: random.pick([3, 6, 10, 16, 24, 40]),
  far: random.pick([0, 0, 0.02, 0.1]),
  indirect: random.pick([0.1, 0.3, 0.6]),
  jumps: random.pick([0.1, 0.25, 0.4]),
});

/** A random valid program: no ancillary loads, no load from a header, every kind of instruction else. */
export function randomProgram(random: Random, { length, far, indirect, jumps }: Flavour): CbpfProgram {
  const program: CbpfInstruction[] = [];
  const add = (code: number, k = 0, jt = 0, jf = 0): void => {
    program.push({ code, jt, jf, k: k >>> 0 });
  };
  const number = (): number => {
    const kind = random.below(10);
    if (kind < 4) return random.below(64);
    if (kind < 8) return random.pick(EDGES);
    return random.pick([random.below(256), random.below(65536), random.below(4294967296)]);
  };
  const offset = (): number => {
    if (random.chance(far)) {
      // Not those that count from a header in the kernel (SKF_*_OFF): libpcap knows of no such thing.
      const there = number();
      return there >= 0xffe00000 ? there - 0x40000000 : there;
    }
    return random.below(random.pick([4, 16, 40, 70]));
  };
  // Scratch memory that is written first, so that every way has: the others are only written later, and read then.
  const words = random.pick([0, 0, 1, 3, CBPF_WORDS]);
  for (let word = 0; word < words; word++) {
    if (random.chance(0.5)) add(LD | random.pick([W, H, B]) | ABS, random.below(30));
    add(random.chance(0.8) ? ST : STX, word);
  }
  const size = (): number => random.pick([W, H, B]);
  for (let step = 0; step < length; step++) {
    const left = length - step - 1;
    if (random.chance(jumps)) {
      const skip = (): number => random.below(Math.min(left + 1, 255, random.pick([2, 4, 12])));
      if (random.chance(0.06)) add(JMP | Cbpf.JA, skip());
      else add(JMP | random.pick(CONDITIONS) | random.pick([K, K, K, X]), number(), skip(), skip());
    } else if (random.chance(0.04)) {
      add(RET | random.pick([K, A]), random.pick([0, 1, number()]));
    } else if (random.chance(0.45)) {
      if (random.chance(indirect)) add(LD | size() | IND, offset());
      else add(LD | size() | ABS, offset());
    } else {
      const kind = random.below(20);
      if (kind < 2) add(LDX | B | MSH, offset());
      else if (kind < 3) add(random.pick([LD, LDX]) | W | LEN);
      else if (kind < 5) add(random.pick([LD, LDX]) | IMM, number());
      else if (kind < 8) {
        if (words > 0) add(random.pick([LD | MEM, LDX | MEM, ST, STX]), random.below(words));
        else add(MISC | Cbpf.TAX);
      } else if (kind < 10) add(MISC | random.pick([Cbpf.TAX, Cbpf.TAX, Cbpf.TXA]));
      else if (kind < 11) add(ALU | Cbpf.NEG);
      else {
        const operation = random.pick(OPERATIONS);
        if (random.chance(0.25)) add(ALU | operation | X);
        else if (operation === Cbpf.DIV || operation === Cbpf.MOD) add(ALU | operation | K, number() || 1);
        else if (operation === Cbpf.LSH || operation === Cbpf.RSH) add(ALU | operation | K, random.below(32));
        else add(ALU | operation | K, number());
      }
    }
  }
  add(random.pick([RET | K, RET | K, RET | A]), random.pick([0, 1, 0xffff, 262144, 0xffffffff]));
  return program;
}

/** A packet with bytes that random programs look for; often short. */
export function randomPacket(random: Random): Uint8Array {
  const length = random.pick([1, 14, 20, 34, 54, 60, 64, 80, 128, random.below(90) + 1]);
  const packet = Uint8Array.from({ length }, () =>
    random.pick([0, 1, 2, 4, 6, 8, 17, 0x45, random.below(256)]),
  );
  if (length >= 34 && random.chance(0.5)) packet.set([8, 0, 0x45], 12);
  return packet;
}
