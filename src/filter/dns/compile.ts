import type { CbpfProgram } from '../../ebpf/cbpf/instruction.ts';
import { Assembler, Op, type Label as Place } from '../assembler.ts';
import { forgetLowerBound, toUdp } from '../link.ts';
import { FilterError } from '../problem.ts';
import type { DnsFilter } from './language.ts';
import { MAX_LABEL, type NamePattern } from './pattern.ts';

const DNS_PORT = 53;
const UDP_BYTES = 8;
const DNS_BYTES = 12;
/** The shortest question: the root, type and class. */
const QUESTION_BYTES = 5;
/** Labels of the longest name: 127 of one byte and the root. */
const MAX_LABELS = 127;
const MAX_NAME = 255;

/** Scratch memory. M[0] is free once the UDP header is found. */
const NAME = 1;
const END = 2;
const AT = 3;
/** Where names begin that are open at the start: a ring of the last labels' places, then one word per number of labels. */
const RING = 2;
const WORDS = 16;

/** Must be 0 in a query: response, opcode, authoritative, truncated, reserved, rcode. */
const QUERY_FLAGS = 0xfe4f;
const RESPONSE = 0x8000;
/** EDNS (RFC 6891) and a signature (RFC 8945). */
const MAX_ADDITIONAL = 2;

interface Byte {
  value: number;
  /** Bits that do not matter. */
  mask: number;
}

const isLetter = (byte: number) => (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a);

/** Compares bytes at X + offset, four, two or one at a time. */
function compare(asm: Assembler, bytes: readonly Byte[], offset: number, otherwise: Place): void {
  for (let at = 0; at < bytes.length; ) {
    const left = bytes.length - at;
    const size = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    let value = 0;
    let mask = 0;
    for (const byte of bytes.slice(at, at + size)) {
      value = ((value << 8) | byte.value) >>> 0;
      mask = ((mask << 8) | byte.mask) >>> 0;
    }
    asm.op(size === 4 ? Op.LD_IND : size === 2 ? Op.LDH_IND : Op.LDB_IND, offset + at);
    if (mask !== 0) asm.op(Op.OR_K, mask);
    asm.need((value | mask) >>> 0, otherwise);
    at += size;
  }
}

/**
 * Compares the name whose first label is at X. Bytes are read in order and never beyond the 4 of type and class behind the name,
 * so that a name that is not the pattern's fails here and not by the end of the packet.
 */
function matchName(asm: Assembler, pattern: NamePattern, otherwise: Place): void {
  let run: Byte[] = [];
  let offset = 0;
  const flush = () => {
    compare(asm, run, offset, otherwise);
    offset += run.length;
    run = [];
  };
  for (const label of pattern.labels) {
    if (label.kind === 'literal') {
      run.push({ value: label.bytes.length, mask: 0 });
      for (const [index, value] of label.bytes.entries()) {
        run.push({ value, mask: label.any[index] ? 0xff : isLetter(value) ? 0x20 : 0 });
      }
      continue;
    }
    flush();
    asm.xByte(offset);
    if (label.min === label.max) asm.need(label.min, otherwise);
    else {
      asm.branch(Op.JGE_K, label.min, { no: otherwise });
      asm.branch(Op.JGT_K, label.max, { yes: otherwise });
    }
    asm.op(Op.ADD_X);
    asm.op(Op.ADD_K, offset + 1);
    asm.op(Op.TAX);
    offset = 0;
  }
  if (!pattern.openEnd) run.push({ value: 0, mask: 0 });
  // A label that is any must at least lie within the packet.
  else if (run.length === 0) asm.xByte(offset);
  flush();
}

/** A: the place behind the label at X, whose length is in A. */
function overLabel(asm: Assembler): void {
  asm.op(Op.ADD_X);
  asm.op(Op.ADD_K, 1);
  forgetLowerBound(asm);
}

/**
 * Names that are open at the start. One walk over the labels keeps the places of the last of them in a ring; the step at which
 * the root is met says where in the ring the label stands that a pattern begins with. A name has at most 127 labels.
 */
function matchSuffixes(asm: Assembler, patterns: readonly NamePattern[], match: Place, text: string): void {
  const counts = [...new Set(patterns.map((pattern) => pattern.labels.length))];
  const ring = Math.max(...counts);
  const wordOf = new Map(counts.map((count, index) => [count, RING + ring + index]));
  const longest = patterns.find((pattern) => pattern.labels.length === ring);
  if (longest !== undefined && RING + ring + counts.length > WORDS) {
    throw new FilterError(text, longest.span, `${ring} labels are more than fit into scratch memory here`, {
      code: 'FILTER_UNSUPPORTED',
      help: 'split the names into filters of their own, or use shorter ones',
    });
  }
  const missed = asm.label();
  const test = asm.label();
  // Where the root is met after n labels; from `ring` on those that are the same modulo `ring` are the same.
  const ends = Array.from({ length: 2 * ring }, () => asm.label());
  const endOf = (n: number) => ends[n < ring ? n : ring + (n % ring)];
  asm.op(Op.LDX_MEM, NAME);
  for (let n = 0; n <= MAX_LABELS; n++) {
    asm.xByte(0);
    asm.branch(Op.JEQ_K, 0, { yes: endOf(n) });
    if (n === MAX_LABELS) break;
    asm.branch(Op.JGT_K, MAX_LABEL, { yes: missed });
    asm.op(Op.STX, RING + (n % ring));
    overLabel(asm);
    asm.op(Op.TAX);
  }
  asm.jump(missed);
  for (const [index, end] of ends.entries()) {
    asm.place(end);
    const fits = (count: number) => index >= count;
    // Too few labels: the place of the root, where no label of a pattern begins.
    for (const count of counts) if (!fits(count)) asm.op(Op.STX, wordOf.get(count));
    for (const count of counts) {
      if (!fits(count)) continue;
      asm.op(Op.LDX_MEM, RING + ((index - count) % ring));
      asm.op(Op.STX, wordOf.get(count));
    }
    asm.jump(test);
  }
  asm.place(test);
  for (const pattern of patterns) {
    const next = asm.label();
    asm.op(Op.LDX_MEM, wordOf.get(pattern.labels.length));
    matchName(asm, pattern, next);
    asm.jump(match);
    asm.place(next);
  }
  asm.place(missed);
}

/** Whether the datagram whose UDP header is at X is a sane query (docs/filters.md says what that is). */
function checkQuery(asm: Assembler, good: Place, bad: Place): void {
  asm.xHalf(4);
  asm.branch(Op.JGE_K, UDP_BYTES + DNS_BYTES + QUESTION_BYTES, { no: bad });
  asm.op(Op.ADD_X);
  asm.op(Op.ST, END);
  asm.xHalf(UDP_BYTES + 2);
  asm.branch(Op.JSET_K, QUERY_FLAGS, { yes: bad });
  asm.xHalf(UDP_BYTES + 4);
  asm.need(1, bad);
  asm.xWord(UDP_BYTES + 6);
  asm.need(0, bad);
  asm.xHalf(UDP_BYTES + 10);
  asm.branch(Op.JGT_K, MAX_ADDITIONAL, { yes: bad });
  asm.advance(UDP_BYTES + DNS_BYTES);
  asm.op(Op.STX, NAME);
  const end = asm.label();
  for (let n = 0; n <= MAX_LABELS; n++) {
    asm.xByte(0);
    asm.branch(Op.JEQ_K, 0, { yes: end });
    if (n === MAX_LABELS) break;
    asm.branch(Op.JGT_K, MAX_LABEL, { yes: bad });
    overLabel(asm);
    asm.op(Op.ST, AT);
    // Never read beyond the datagram: that would end the filter, with no match.
    asm.op(Op.LDX_MEM, END);
    asm.branch(Op.JGE_X, 0, { yes: bad });
    asm.op(Op.TAX);
  }
  asm.jump(bad);
  asm.place(end);
  // X is at the root: type and class must follow, and the name be no longer than names are.
  asm.op(Op.TXA);
  asm.op(Op.ADD_K, QUESTION_BYTES);
  asm.op(Op.LDX_MEM, END);
  asm.branch(Op.JGT_X, 0, { yes: bad });
  asm.op(Op.SUB_K, QUESTION_BYTES - 1);
  asm.op(Op.LDX_MEM, NAME);
  asm.op(Op.SUB_X);
  asm.branch(Op.JGT_K, MAX_NAME, { yes: bad, no: good });
}

/**
 * Classic BPF for DNS queries in UDP datagrams to port 53, over IPv4 and IPv6 with options, extension headers and up to two VLAN
 * tags. Returns `snaplen` for a match.
 */
export function compileDns(filter: DnsFilter, text: string, linkType: number, snaplen: number): CbpfProgram {
  const asm = new Assembler();
  const match = asm.label();
  const other = asm.label();
  toUdp(asm, linkType, other);
  asm.xHalf(2);
  asm.need(DNS_PORT, other);
  const names = asm.label();
  if (filter.valid || filter.invalid) {
    asm.op(Op.STX, 0);
    const good = asm.label();
    const bad = asm.label();
    checkQuery(asm, good, bad);
    asm.place(good);
    asm.op(Op.LDX_MEM, 0);
    asm.jump(filter.valid ? match : names);
    asm.place(bad);
    asm.op(Op.LDX_MEM, 0);
    asm.jump(filter.invalid ? match : names);
  }
  asm.place(names);
  if (filter.names.length > 0) {
    asm.xHalf(4);
    asm.branch(Op.JGE_K, UDP_BYTES + DNS_BYTES + QUESTION_BYTES, { no: other });
    asm.xHalf(UDP_BYTES + 2);
    asm.branch(Op.JSET_K, RESPONSE, { yes: other });
    asm.xHalf(UDP_BYTES + 4);
    asm.branch(Op.JEQ_K, 0, { yes: other });
    asm.advance(UDP_BYTES + DNS_BYTES);
    const everything = filter.names.some((name) => name.openStart && name.labels.length === 0);
    const fixed = filter.names.filter((name) => !name.openStart);
    const open = filter.names.filter((name) => name.openStart);
    if (everything) asm.jump(match);
    else {
      asm.op(Op.STX, NAME);
      for (const [index, name] of fixed.entries()) {
        const next = asm.label();
        if (index > 0) asm.op(Op.LDX_MEM, NAME);
        matchName(asm, name, next);
        asm.jump(match);
        asm.place(next);
      }
      if (open.length > 0) matchSuffixes(asm, open, match, text);
    }
  }
  asm.place(other);
  asm.ret(0);
  asm.place(match);
  asm.ret(snaplen);
  return asm.finish();
}
