import type { CbpfProgram } from '../../ebpf/index.ts';
import { Assembler, type Label, Op } from '../assembler.ts';
import { toUdp } from '../link.ts';
import { QUIC_DRAFT, QUIC_V1, QUIC_V2, type QuicTerm, type QuicType } from './language.ts';

const UDP_BYTES = 8;
/** First byte: form, fixed bit and type, version, length of the connection id (RFC 9000 section 17.2). */
const LONG_BYTES = 7;
const LONG = 0x80;
const LONG_AND_FIXED = 0xc0;
const TYPE_BITS = 0x30;
/** Longest connection id of the versions that we know. */
const MAX_ID = 20;

/** The type bits of version 1 and the drafts; version 2 goes round by one (RFC 9369 section 3.2). */
const TYPES: Partial<Record<QuicType, number>> = { initial: 0, '0rtt': 1, handshake: 2, retry: 3 };

const SCRATCH = 1;

/** A, the version, is one that is known. */
function known(asm: Assembler, yes: Label, otherwise: Label): void {
  asm.branch(Op.JEQ_K, QUIC_V1, { yes: yes });
  asm.branch(Op.JEQ_K, QUIC_V2, { yes: yes });
  asm.op(Op.AND_K, 0xffffff00);
  asm.need(QUIC_DRAFT, otherwise);
  asm.jump(yes);
}

function port(asm: Assembler, number: number, otherwise: Label): void {
  const found = asm.label();
  asm.xHalf(0);
  asm.branch(Op.JEQ_K, number, { yes: found });
  asm.xHalf(2);
  asm.need(number, otherwise);
  asm.place(found);
}

function term(asm: Assembler, wanted: QuicTerm, otherwise: Label): void {
  const { type, version } = wanted;
  if (wanted.port !== undefined) port(asm, wanted.port, otherwise);
  if (type === 'negotiation') {
    asm.xByte(UDP_BYTES);
    asm.branch(Op.JSET_K, LONG, { no: otherwise });
    asm.xWord(UDP_BYTES + 1);
    asm.need(0, otherwise);
    negotiated(asm, otherwise);
    return;
  }
  asm.xByte(UDP_BYTES);
  asm.op(Op.AND_K, LONG_AND_FIXED);
  asm.need(LONG_AND_FIXED, otherwise);
  const right = asm.label();
  asm.xWord(UDP_BYTES + 1);
  if (version !== undefined) asm.need(version, otherwise);
  else known(asm, right, otherwise);
  asm.place(right);
  const bits = TYPES[type];
  if (bits !== undefined) {
    const one = asm.label();
    const two = asm.label();
    const done = asm.label();
    if (version === undefined) {
      asm.xWord(UDP_BYTES + 1);
      asm.branch(Op.JEQ_K, QUIC_V2, { yes: two, no: one });
    } else if (version === QUIC_V2) asm.jump(two);
    if (version !== QUIC_V2) {
      asm.place(one);
      asm.xByte(UDP_BYTES);
      asm.op(Op.AND_K, TYPE_BITS);
      asm.need(bits << 4, otherwise);
      asm.jump(done);
    }
    if (version === undefined || version === QUIC_V2) {
      asm.place(two);
      asm.xByte(UDP_BYTES);
      asm.op(Op.AND_K, TYPE_BITS);
      asm.need(((bits + 1) & 3) << 4, otherwise);
    }
    asm.place(done);
  }
  asm.xByte(UDP_BYTES + 5);
  asm.branch(Op.JGT_K, MAX_ID, { yes: otherwise });
}

/** Two connection ids, and behind them one or more versions of 4 bytes each, up to the end of the datagram. */
function negotiated(asm: Assembler, otherwise: Label): void {
  asm.xHalf(4);
  asm.op(Op.SUB_K, UDP_BYTES + LONG_BYTES);
  asm.op(Op.ST, SCRATCH);
  asm.xByte(UDP_BYTES + 5);
  asm.branch(Op.JGT_K, MAX_ID, { yes: otherwise });
  asm.op(Op.ST, SCRATCH + 1);
  asm.op(Op.ADD_X);
  asm.op(Op.TAX);
  asm.xByte(UDP_BYTES + 6);
  asm.branch(Op.JGT_K, MAX_ID, { yes: otherwise });
  asm.op(Op.LDX_MEM, SCRATCH + 1);
  asm.op(Op.ADD_X);
  asm.op(Op.TAX);
  asm.op(Op.LD_MEM, SCRATCH);
  asm.branch(Op.JGT_X, 0, { no: otherwise });
  asm.op(Op.SUB_X);
  asm.branch(Op.JSET_K, 3, { yes: otherwise });
}

/**
 * Classic BPF for UDP datagrams that begin with a QUIC packet with a long header, over IPv4 and IPv6 with options, extension headers
 * and up to two VLAN tags. Returns `snaplen` for a match.
 */
export function compileQuic(terms: readonly QuicTerm[], linkType: number, snaplen: number): CbpfProgram {
  const asm = new Assembler();
  const match = asm.label();
  const other = asm.label();
  toUdp(asm, linkType, other);
  // What is shorter than any of these would end the filter where it is read.
  asm.xHalf(4);
  asm.branch(Op.JGE_K, UDP_BYTES + LONG_BYTES, { no: other });
  asm.op(Op.STX, 0);
  for (const [index, each] of terms.entries()) {
    const next = asm.label();
    if (index > 0) asm.op(Op.LDX_MEM, 0);
    term(asm, each, next);
    asm.jump(match);
    asm.place(next);
  }
  asm.place(other);
  asm.ret(0);
  asm.place(match);
  asm.ret(snaplen);
  return asm.finish();
}
