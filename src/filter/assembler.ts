import { SluiceError } from '../base/errors.ts';
import { CBPF_MAX, Cbpf, type CbpfInstruction } from '../ebpf/cbpf/instruction.ts';

/** Codes of the instructions that the languages are made of. */
export const Op = {
  LD_ABS: Cbpf.LD | Cbpf.W | Cbpf.ABS,
  LDH_ABS: Cbpf.LD | Cbpf.H | Cbpf.ABS,
  LDB_ABS: Cbpf.LD | Cbpf.B | Cbpf.ABS,
  LD_IND: Cbpf.LD | Cbpf.W | Cbpf.IND,
  LDH_IND: Cbpf.LD | Cbpf.H | Cbpf.IND,
  LDB_IND: Cbpf.LD | Cbpf.B | Cbpf.IND,
  LD_IMM: Cbpf.LD | Cbpf.IMM,
  LD_MEM: Cbpf.LD | Cbpf.MEM,
  LD_LEN: Cbpf.LD | Cbpf.W | Cbpf.LEN,
  LDX_IMM: Cbpf.LDX | Cbpf.IMM,
  LDX_MEM: Cbpf.LDX | Cbpf.MEM,
  ST: Cbpf.ST,
  STX: Cbpf.STX,
  ADD_K: Cbpf.ALU | Cbpf.ADD | Cbpf.K,
  ADD_X: Cbpf.ALU | Cbpf.ADD | Cbpf.X,
  SUB_K: Cbpf.ALU | Cbpf.SUB | Cbpf.K,
  SUB_X: Cbpf.ALU | Cbpf.SUB | Cbpf.X,
  MUL_K: Cbpf.ALU | Cbpf.MUL | Cbpf.K,
  DIV_X: Cbpf.ALU | Cbpf.DIV | Cbpf.X,
  MOD_K: Cbpf.ALU | Cbpf.MOD | Cbpf.K,
  MOD_X: Cbpf.ALU | Cbpf.MOD | Cbpf.X,
  OR_K: Cbpf.ALU | Cbpf.OR | Cbpf.K,
  AND_K: Cbpf.ALU | Cbpf.AND | Cbpf.K,
  LSH_K: Cbpf.ALU | Cbpf.LSH | Cbpf.K,
  RSH_K: Cbpf.ALU | Cbpf.RSH | Cbpf.K,
  JA: Cbpf.JMP | Cbpf.JA,
  JEQ_K: Cbpf.JMP | Cbpf.JEQ | Cbpf.K,
  JEQ_X: Cbpf.JMP | Cbpf.JEQ | Cbpf.X,
  JGT_K: Cbpf.JMP | Cbpf.JGT | Cbpf.K,
  JGT_X: Cbpf.JMP | Cbpf.JGT | Cbpf.X,
  JGE_K: Cbpf.JMP | Cbpf.JGE | Cbpf.K,
  JGE_X: Cbpf.JMP | Cbpf.JGE | Cbpf.X,
  JSET_K: Cbpf.JMP | Cbpf.JSET | Cbpf.K,
  RET_K: Cbpf.RET | Cbpf.K,
  TAX: Cbpf.MISC | Cbpf.TAX,
  TXA: Cbpf.MISC | Cbpf.TXA,
} as const;

/** A place in a program that jumps lead to: placed once, behind every jump to it. */
export interface Label {
  placed: boolean;
}

type Item =
  | { kind: 'plain'; code: number; k: number }
  | { kind: 'branch'; code: number; k: number; yes: Label; no: Label }
  | { kind: 'jump'; to: Label }
  | { kind: 'label'; label: Label };

/** The furthest a conditional jump of classic BPF reaches. */
const REACH = 255;

/**
 * Assembles classic BPF with labels. Jumps lead forward only, as classic BPF wants; conditional ones that are too far for
 * their 8 bits go through an unconditional jump (or another return) behind them.
 */
export class Assembler {
  readonly #items: Item[] = [];

  label(): Label {
    return { placed: false };
  }

  place(label: Label): void {
    if (label.placed) throw new Error('a label is placed once');
    label.placed = true;
    this.#items.push({ kind: 'label', label });
  }

  op(code: number, k = 0): void {
    this.#items.push({ kind: 'plain', code, k: k >>> 0 });
  }

  /** Continues behind the instruction for the side that is left out. */
  branch(code: number, k: number, sides: { yes?: Label; no?: Label }): void {
    const next = this.label();
    const { yes = next, no = next } = sides;
    if (yes.placed || no.placed) throw new Error('classic BPF jumps forward only');
    this.#items.push({ kind: 'branch', code, k: k >>> 0, yes, no });
    this.place(next);
  }

  jump(to: Label): void {
    if (to.placed) throw new Error('classic BPF jumps forward only');
    this.#items.push({ kind: 'jump', to });
  }

  ret(k: number): void {
    this.op(Op.RET_K, k);
  }

  // What filters do all the time. `x` loads are relative to X.
  byte(k: number): void {
    this.op(Op.LDB_ABS, k);
  }
  half(k: number): void {
    this.op(Op.LDH_ABS, k);
  }
  xByte(k: number): void {
    this.op(Op.LDB_IND, k);
  }
  xHalf(k: number): void {
    this.op(Op.LDH_IND, k);
  }
  xWord(k: number): void {
    this.op(Op.LD_IND, k);
  }
  /** Unless A is `k`, to the label. */
  need(k: number, otherwise: Label): void {
    this.branch(Op.JEQ_K, k, { no: otherwise });
  }
  /** X += k, by way of A. */
  advance(k: number): void {
    if (k === 0) return;
    this.op(Op.TXA);
    this.op(Op.ADD_K, k);
    this.op(Op.TAX);
  }

  /** FILTER_UNSUPPORTED beyond 4,096 instructions (BPF_MAXINSNS). */
  finish(): CbpfInstruction[] {
    // From the end, so that each distance is known when it is needed. Positions count back from the end.
    const reversed: CbpfInstruction[] = [];
    const places = new Map<Label, number>();
    const at = (label: Label): number => {
      const place = places.get(label);
      if (place === undefined) throw new Error('a jump to a label that is not placed');
      return place;
    };
    const emit = (code: number, jt: number, jf: number, k: number) => reversed.push({ code, jt, jf, k });
    /** An unconditional way to the place, or what stands there when that is a return. */
    const away = (place: number): void => {
      const target = reversed[place - 1];
      if (target?.code === Op.RET_K) emit(target.code, 0, 0, target.k);
      else emit(Op.JA, 0, 0, reversed.length - place);
    };
    for (let i = this.#items.length - 1; i >= 0; i--) {
      const item = this.#items[i];
      switch (item.kind) {
        case 'label':
          places.set(item.label, reversed.length);
          break;
        case 'plain':
          emit(item.code, 0, 0, item.k);
          break;
        case 'jump':
          if (reversed.length !== at(item.to)) away(at(item.to));
          break;
        default: {
          const { yes, no } = item;
          if (at(yes) === at(no)) break;
          let [t, f] = [at(yes), at(no)];
          if (reversed.length - t > REACH) {
            away(t);
            t = reversed.length;
          }
          if (reversed.length - f > REACH) {
            away(f);
            f = reversed.length;
            // The way of the other side may have come just out of reach by this.
            if (reversed.length - t > REACH) {
              away(t);
              t = reversed.length;
            }
          }
          emit(item.code, reversed.length - t, reversed.length - f, item.k);
        }
      }
    }
    if (reversed.length > CBPF_MAX) {
      throw new SluiceError(
        'FILTER_UNSUPPORTED',
        `this takes ${reversed.length} instructions; classic BPF has room for ${CBPF_MAX}`,
        { help: 'split it into several filters' },
      );
    }
    return reversed.toReversed();
  }
}
