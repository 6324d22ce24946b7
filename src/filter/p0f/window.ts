import { type Assembler, type Label, Op } from '../assembler.ts';
import type { P0fSignature } from './signature.ts';

/** How p0f finds what a window is a multiple of (detect_win_multi): the first of these numbers that divides it. */
interface Divisor {
  /** Without a maximum segment size; else what is added to it. */
  fixed: boolean;
  value: number;
  mtu: boolean;
}

/** Below, p0f takes no window for a multiple. */
const LEAST_MSS = 100;
const HEADERS_4 = 40;
const HEADERS_6 = 60;
const TIMESTAMP_BYTES = 12;
const ETHERNET = 1500;

export interface WindowSetting {
  version: 4 | 6;
  /** The option is there, and its first number is not 0. */
  timestamp: boolean;
  /** Bytes of the IP and TCP headers; undefined: the word of scratch memory has it. */
  headers: number | undefined;
}

const mss = (value: number): Divisor => ({ fixed: false, value, mtu: false });
const fixed = (value: number): Divisor => ({ fixed: true, value, mtu: false });
const mtu = (value: number): Divisor => ({ fixed: false, value, mtu: true });

/** In p0f's order. What a SYN-ACK may add (the MSS of the SYN before it) is not in the packet. */
function divisors({ version, timestamp, headers = 0 }: WindowSetting): Divisor[] {
  const over = ETHERNET - (version === 4 ? HEADERS_4 : HEADERS_6);
  return [
    mss(0),
    ...(timestamp ? [mss(-TIMESTAMP_BYTES)] : []),
    fixed(ETHERNET - HEADERS_4),
    fixed(ETHERNET - HEADERS_4 - TIMESTAMP_BYTES),
    ...(version === 6 ? [fixed(over), fixed(over - TIMESTAMP_BYTES)] : []),
    mtu(HEADERS_4),
    mtu(headers),
    ...(version === 6 ? [mtu(HEADERS_6)] : []),
    { fixed: true, value: ETHERNET, mtu: true },
  ];
}

/** The windows that are `times` the MSS or MTU for a known MSS; a window has 16 bits. */
export function windowsOf(kind: 'mss' | 'mtu', times: number, mss: number, setting: WindowSetting): number[] {
  if (mss < LEAST_MSS) return [];
  const found = new Set<number>();
  const before: number[] = [];
  for (const { fixed, value, mtu } of divisors(setting)) {
    const divisor = fixed ? value : mss + value;
    const window = divisor * times;
    if (mtu === (kind === 'mtu') && window <= 0xffff && before.every((each) => window % each !== 0)) {
      found.add(window);
    }
    before.push(divisor);
  }
  return [...found];
}

export interface WindowWords {
  /** Scratch memory: the window, the MSS, the bytes of the headers. */
  window: number;
  mss: number;
  headers: number;
}

/** Code that goes on when the window is `times` the MSS or MTU, with both in scratch memory. X is lost. */
export function multipleOf(
  asm: Assembler,
  window: { kind: 'mss' | 'mtu'; value: number },
  setting: WindowSetting,
  words: WindowWords,
  otherwise: Label,
): void {
  const match = asm.label();
  asm.op(Op.LD_MEM, words.mss);
  asm.branch(Op.JGE_K, LEAST_MSS, { no: otherwise });
  // Behind the last divisor of the kind nothing can match any more.
  const list = divisors(setting);
  const last = list.findLastIndex(({ mtu }) => mtu === (window.kind === 'mtu'));
  for (const { fixed, value, mtu } of list.slice(0, last + 1)) {
    const next = asm.label();
    const counts = mtu === (window.kind === 'mtu');
    if (fixed) {
      asm.op(Op.LDX_IMM, value);
    } else {
      asm.op(Op.LD_MEM, words.mss);
      if (mtu && setting.headers === undefined && value === 0) {
        asm.op(Op.LDX_MEM, words.headers);
        asm.op(Op.ADD_X);
      } else if (value > 0) asm.op(Op.ADD_K, value);
      else if (value < 0) asm.op(Op.SUB_K, -value);
      asm.op(Op.TAX);
    }
    asm.op(Op.LD_MEM, words.window);
    asm.op(Op.MOD_X);
    asm.need(0, next);
    if (counts) {
      asm.op(Op.LD_MEM, words.window);
      asm.op(Op.DIV_X);
      asm.branch(Op.JEQ_K, window.value, { yes: match, no: otherwise });
    } else asm.jump(otherwise);
    asm.place(next);
  }
  asm.jump(otherwise);
  asm.place(match);
}

/** Whether a signature's window can only be told with the MSS of the packet at hand. */
export function needsMss(signature: P0fSignature): boolean {
  return (signature.window.kind === 'mss' || signature.window.kind === 'mtu') && signature.mss === undefined;
}
