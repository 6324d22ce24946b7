import { type Assembler, type Label, Op } from '../assembler.ts';
import { MAX_OPTIONS, type P0fSignature, type Quirk, TcpOption } from './signature.ts';

/** Bytes of the options that have a fixed length for p0f, whatever their length byte says. */
const LENGTHS: Record<number, number> = {
  [TcpOption.nop]: 1,
  [TcpOption.mss]: 4,
  [TcpOption.ws]: 3,
  [TcpOption.sok]: 2,
  [TcpOption.ts]: 10,
};
/** Of the others: what their length byte may say. */
const SACK_LENGTHS = { min: 10, max: 34 };
const OTHER_LENGTHS = { min: 2, max: 40 };
const MAX_SCALE = 14;

export const TCP_BYTES = 20;
export const MAX_TCP_BYTES = 60;

/** Words of scratch memory while a signature is tested. */
export const Word = { network: 0, end: 1, quirks: 2, mss: 3, window: 4, scale: 5, headers: 6 } as const;

/** Bits of Word.quirks. */
const QuirkBit = { 'ts1-': 1, 'ts2+': 2, 'opt+': 4, exws: 8, bad: 16 } as const satisfies Partial<
  Record<Quirk, number>
>;

const fixedLength = (kind: number): number | undefined => LENGTHS[kind];

/** Bytes of the TCP header when each option has the length that it should; undefined when the packet decides. */
export function headerBytes({ options, padding, quirks }: P0fSignature): number | undefined {
  if (quirks.has('bad')) return undefined;
  const once = (kind: number) => options.filter((each) => each === kind).length <= 1;
  if (![TcpOption.mss, TcpOption.ws, TcpOption.ts].every(once)) return undefined;
  let bytes = TCP_BYTES;
  for (const kind of options) {
    if (kind === TcpOption.eol) bytes += 1 + padding;
    else {
      const length = fixedLength(kind);
      if (length === undefined) return undefined;
      bytes += length;
    }
  }
  return bytes;
}

/** Offsets from the TCP header of the values in options of fixed lengths. */
export function valueOffsets(options: readonly number[]): { mss?: number; scale?: number; ts?: number } {
  const found: { mss?: number; scale?: number; ts?: number } = {};
  let at = TCP_BYTES;
  for (const kind of options) {
    if (kind === TcpOption.mss) found.mss = at + 2;
    else if (kind === TcpOption.ws) found.scale = at + 2;
    else if (kind === TcpOption.ts) found.ts = at + 2;
    at += fixedLength(kind) ?? 0;
  }
  return found;
}

/** Code for options of fixed lengths; the TCP header begins at X + tcp. */
export function fixedOptions(asm: Assembler, signature: P0fSignature, tcp: number, otherwise: Label): void {
  const { options, padding, quirks, packet } = signature;
  let at = tcp + TCP_BYTES;
  for (const kind of options) {
    const length = fixedLength(kind);
    if (length === undefined || length === 1) {
      asm.xByte(at);
      asm.need(kind, otherwise);
    } else {
      asm.xHalf(at);
      asm.need((kind << 8) | length, otherwise);
    }
    if (kind === TcpOption.ts) {
      asm.xWord(at + 2);
      zero(asm, quirks.has('ts1-'), otherwise);
      if (packet === 'syn') {
        asm.xWord(at + 6);
        zero(asm, !quirks.has('ts2+'), otherwise);
      }
    } else if (kind === TcpOption.ws) {
      asm.xByte(at + 2);
      if (signature.scale !== undefined) asm.need(signature.scale, otherwise);
      else asm.branch(Op.JGT_K, MAX_SCALE, quirks.has('exws') ? { no: otherwise } : { yes: otherwise });
    } else if (kind === TcpOption.eol) {
      // p0f does not see the very last byte.
      const seen = padding - 1;
      const filled = asm.label();
      for (let byte = 0; byte < seen; byte++) {
        asm.xByte(at + 1 + byte);
        asm.branch(Op.JEQ_K, 0, { no: quirks.has('opt+') ? filled : otherwise });
      }
      if (quirks.has('opt+')) asm.jump(otherwise);
      asm.place(filled);
    }
    at += length ?? 0;
  }
}

function zero(asm: Assembler, wanted: boolean, otherwise: Label): void {
  asm.branch(Op.JEQ_K, 0, wanted ? { no: otherwise } : { yes: otherwise });
}

/** Sets a bit of Word.quirks when the test of A comes out so. */
function note(asm: Assembler, bit: number, code: number, k: number, when: 'yes' | 'no'): void {
  const skip = asm.label();
  asm.branch(code, k, when === 'yes' ? { no: skip } : { yes: skip });
  asm.op(Op.LD_MEM, Word.quirks);
  asm.op(Op.OR_K, bit);
  asm.op(Op.ST, Word.quirks);
  asm.place(skip);
}

/**
 * Code for options whose lengths the packet says, and for malformed ones: walks them with X, notes quirks and values in scratch
 * memory, and compares the quirks at the end. Word.end has where the TCP header ends; X + at is the first option.
 */
export function walkedOptions(
  asm: Assembler,
  signature: P0fSignature,
  first: number,
  otherwise: Label,
): void {
  const { options, quirks } = signature;
  const done = asm.label();
  for (const word of [Word.quirks, Word.mss, Word.scale]) {
    asm.op(Op.LD_IMM, 0);
    asm.op(Op.ST, word);
  }
  let at = first;
  for (const [index, kind] of options.entries()) {
    // An option cut off can only be the last: p0f ends there.
    const last = index === options.length - 1 && quirks.has('bad') ? done : undefined;
    if (index === options.length - 1) beyond(asm, at + 1, otherwise);
    asm.xByte(at);
    asm.need(kind, otherwise);
    if (kind === TcpOption.eol) padding(asm, signature, at + 1, otherwise);
    else {
      const length = fixedLength(kind);
      if (length === undefined) {
        variable(asm, kind, at, last ?? otherwise);
        at = 0;
      } else {
        if (last !== undefined && length > 1) beyond(asm, at + length, last);
        if (length > 1) {
          asm.xByte(at + 1);
          note(asm, QuirkBit.bad, Op.JEQ_K, length, 'no');
        }
        value(asm, signature, kind, at + 2);
        at += length;
      }
    }
  }
  // Behind the last option the header ends, unless p0f has stopped counting.
  if (options.at(-1) !== TcpOption.eol) {
    asm.op(Op.TXA);
    asm.op(Op.ADD_K, at);
    asm.op(Op.LDX_MEM, Word.end);
    if (options.length < MAX_OPTIONS) asm.branch(Op.JEQ_X, 0, { no: otherwise });
    else {
      asm.branch(Op.JGT_X, 0, { yes: otherwise });
      const whole = asm.label();
      asm.branch(Op.JEQ_X, 0, { yes: whole });
      asm.op(Op.LD_MEM, Word.quirks);
      asm.op(Op.OR_K, QuirkBit.bad);
      asm.op(Op.ST, Word.quirks);
      asm.place(whole);
    }
  }
  const compared = asm.label();
  asm.jump(compared);
  asm.place(done);
  asm.op(Op.LD_MEM, Word.quirks);
  asm.op(Op.OR_K, QuirkBit.bad);
  asm.op(Op.ST, Word.quirks);
  asm.place(compared);
  asm.op(Op.LD_MEM, Word.quirks);
  let expected = 0;
  for (const [quirk, bit] of Object.entries(QuirkBit)) if (quirks.has(quirk as Quirk)) expected |= bit;
  asm.need(expected, otherwise);
}

/** To the label if X + to lies behind the end of the header (X does not). */
function beyond(asm: Assembler, to: number, label: Label): void {
  asm.op(Op.LD_MEM, Word.end);
  asm.op(Op.SUB_X);
  asm.branch(Op.JGE_K, to, { no: label });
}

/** An option with a length of its own at X + at: X goes behind it. `cut` is where p0f gives up on it. */
function variable(asm: Assembler, kind: number, at: number, cut: Label): void {
  const { min, max } = kind === TcpOption.sack ? SACK_LENGTHS : OTHER_LENGTHS;
  beyond(asm, at + 2, cut);
  asm.xByte(at + 1);
  asm.branch(Op.JGE_K, min, { no: cut });
  asm.branch(Op.JGT_K, max, { yes: cut });
  asm.op(Op.ADD_X);
  asm.op(Op.ADD_K, at);
  asm.op(Op.LDX_MEM, Word.end);
  asm.branch(Op.JGT_X, 0, { yes: cut });
  asm.op(Op.TAX);
}

/** What an option says: its value to scratch memory, its quirks noted. */
function value(asm: Assembler, { packet }: P0fSignature, kind: number, at: number): void {
  if (kind === TcpOption.mss) {
    asm.xHalf(at);
    asm.op(Op.ST, Word.mss);
  } else if (kind === TcpOption.ws) {
    asm.xByte(at);
    asm.op(Op.ST, Word.scale);
    note(asm, QuirkBit.exws, Op.JGT_K, MAX_SCALE, 'yes');
  } else if (kind === TcpOption.ts) {
    asm.xWord(at);
    note(asm, QuirkBit['ts1-'], Op.JEQ_K, 0, 'yes');
    if (packet === 'syn') {
      asm.xWord(at + 4);
      note(asm, QuirkBit['ts2+'], Op.JEQ_K, 0, 'no');
    }
  }
}

/** Behind an end of options at X + at: as many bytes as the signature says, up to the end of the header. */
function padding(asm: Assembler, signature: P0fSignature, at: number, otherwise: Label): void {
  asm.op(Op.LD_MEM, Word.end);
  asm.op(Op.SUB_X);
  asm.need(at + signature.padding, otherwise);
  for (let byte = 0; byte < signature.padding - 1; byte++) {
    asm.xByte(at + byte);
    note(asm, QuirkBit['opt+'], Op.JEQ_K, 0, 'no');
  }
}
