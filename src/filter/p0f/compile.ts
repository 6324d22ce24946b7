import type { CbpfProgram } from '../../ebpf/cbpf/instruction.ts';
import { Assembler, type Label, Op } from '../assembler.ts';
import { toNetwork } from '../link.ts';
import { FilterError } from '../problem.ts';
import {
  fixedOptions,
  headerBytes,
  MAX_TCP_BYTES,
  TCP_BYTES,
  valueOffsets,
  Word,
  walkedOptions,
} from './options.ts';
import { type P0fSignature, type Quirk, TcpOption } from './signature.ts';
import { multipleOf, needsMss, type WindowSetting, windowsOf } from './window.ts';

const TCP = 6;
const IPV4_BYTES = 20;
const MAX_IPV4_BYTES = 60;
const IPV6_BYTES = 40;
/** MAX_DIST of p0f: further away, the TTL does not fit. */
const MAX_HOPS = 35;

const Flag = { syn: 0x02, psh: 0x08, ack: 0x10, urg: 0x20, ece: 0x40, cwr: 0x80 } as const;
const DONT_FRAGMENT = 0x4000;
const RESERVED = 0x8000;

/** Bytes of the IP header, or undefined when no packet of this version can match. */
function networkBytes(signature: P0fSignature, version: 4 | 6): number | undefined {
  const { ipOptions, quirks } = signature;
  if (signature.version !== undefined && signature.version !== version) return undefined;
  // p0f leaves df, id+ and id- out of what it compares of IPv6, and not 0+.
  if (version === 6) return ipOptions === 0 && !quirks.has('0+') ? IPV6_BYTES : undefined;
  if (quirks.has('df') ? quirks.has('id-') : quirks.has('id+')) return undefined;
  const bytes = IPV4_BYTES + ipOptions;
  return bytes % 4 === 0 && bytes <= MAX_IPV4_BYTES ? bytes : undefined;
}

/** Why no packet at all can match, or undefined. p0f takes such signatures, and never reports them. */
function impossible(signature: P0fSignature): string | undefined {
  const { packet, quirks, options, scale, mss, window, padding } = signature;
  const has = (kind: number) => options.includes(kind);
  const bytes = headerBytes(signature);
  if (bytes !== undefined && (bytes % 4 !== 0 || bytes > MAX_TCP_BYTES))
    return `these options take ${bytes - TCP_BYTES} bytes; a TCP header has 0 to 40 of them, in steps of 4`;
  if (networkBytes(signature, 4) === undefined && networkBytes(signature, 6) === undefined)
    return 'the length of the IP options and the quirks do not go together';
  if (packet === 'syn' && quirks.has('ack-')) return 'ack- is a quirk of answers: put syn+ack in front';
  if (packet === 'syn+ack' && quirks.has('ack+')) return 'ack+ is a quirk of packets without the ACK flag';
  if (packet === 'syn+ack' && quirks.has('ts2+')) return 'ts2+ is a quirk of the first packet';
  if (quirks.has('urgf+') && quirks.has('uptr+')) return 'uptr+ is a quirk of packets without the URG flag';
  if ((quirks.has('ts1-') || quirks.has('ts2+')) && !has(TcpOption.ts))
    return 'there is no ts among the options';
  if (quirks.has('exws') && !has(TcpOption.ws)) return 'there is no ws among the options';
  if (quirks.has('opt+') && !(has(TcpOption.eol) && padding > 1))
    return 'opt+ needs an eol with two bytes of padding';
  if (quirks.has('bad') && options.length === 0) return 'no options cannot be bad ones';
  if (!has(TcpOption.ws) && (scale ?? 0) !== 0) return 'there is no ws among the options';
  if (!has(TcpOption.mss) && (mss ?? 0) !== 0) return 'there is no mss among the options';
  if (bytes !== undefined && has(TcpOption.ws) && scale !== undefined && scale > 14 !== quirks.has('exws'))
    return 'exws stands for a window scale above 14';
  const multiple = window.kind === 'mss' || window.kind === 'mtu';
  if (multiple && (!has(TcpOption.mss) || (mss ?? 100) < 100))
    return 'only windows of packets with an MSS of 100 or more are multiples of it';
  return undefined;
}

/** Whether the first number of the timestamps is there and not 0. */
function timestampSeen(signature: P0fSignature): boolean {
  return signature.options.includes(TcpOption.ts) && !signature.quirks.has('ts1-');
}

class SignatureCode {
  readonly #asm: Assembler;
  readonly #signature: P0fSignature;
  readonly #version: 4 | 6;
  /** Bytes of the IP header. */
  readonly #network: number;
  readonly #otherwise: Label;

  constructor(asm: Assembler, signature: P0fSignature, version: 4 | 6, network: number, otherwise: Label) {
    this.#asm = asm;
    this.#signature = signature;
    this.#version = version;
    this.#network = network;
    this.#otherwise = otherwise;
  }

  has(quirk: Quirk): boolean {
    return this.#signature.quirks.has(quirk);
  }

  /** A is 0, or is not. */
  zero(wanted: boolean): void {
    const otherwise = this.#otherwise;
    this.#asm.branch(Op.JEQ_K, 0, wanted ? { no: otherwise } : { yes: otherwise });
  }

  ipv4(): void {
    const asm = this.#asm;
    asm.xByte(0);
    asm.need(0x40 | (this.#network / 4), this.#otherwise);
    // No fragments, and these flags only.
    asm.xHalf(6);
    asm.need((this.has('df') ? DONT_FRAGMENT : 0) | (this.has('0+') ? RESERVED : 0), this.#otherwise);
    asm.xHalf(4);
    this.zero(this.has('df') ? !this.has('id+') : this.has('id-'));
    this.hops(8);
  }

  ipv6(): void {
    const asm = this.#asm;
    asm.xWord(0);
    asm.op(Op.AND_K, 0xfffff);
    this.zero(!this.has('flow'));
    this.hops(7);
  }

  hops(at: number): void {
    const { ttl, anyTtl } = this.#signature;
    this.#asm.xByte(at);
    if (ttl < 255) this.#asm.branch(Op.JGT_K, ttl, { yes: this.#otherwise });
    if (!anyTtl && ttl > MAX_HOPS) this.#asm.branch(Op.JGE_K, ttl - MAX_HOPS, { no: this.#otherwise });
  }

  /** The two bits in the IP header. */
  loadEcn(): void {
    if (this.#version === 4) {
      this.#asm.xByte(1);
      this.#asm.op(Op.AND_K, 0x03);
    } else {
      this.#asm.xHalf(0);
      this.#asm.op(Op.AND_K, 0x30);
    }
  }

  ecn(): void {
    const asm = this.#asm;
    const tcp = this.#network;
    this.loadEcn();
    if (!this.has('ecn')) {
      this.zero(true);
      asm.xByte(tcp + 12);
      asm.branch(Op.JSET_K, 0x01, { yes: this.#otherwise });
      return;
    }
    const seen = asm.label();
    asm.branch(Op.JEQ_K, 0, { no: seen });
    asm.xByte(tcp + 13);
    asm.branch(Op.JSET_K, Flag.ece | Flag.cwr, { yes: seen });
    asm.xByte(tcp + 12);
    asm.branch(Op.JSET_K, 0x01, { no: this.#otherwise });
    asm.place(seen);
  }

  tcp(): void {
    const asm = this.#asm;
    const tcp = this.#network;
    const answer = this.#signature.packet === 'syn+ack';
    asm.xByte(tcp + 13);
    if (this.has('ecn')) asm.op(Op.AND_K, 0x3f);
    asm.need(
      Flag.syn |
        (answer ? Flag.ack : 0) |
        (this.has('urgf+') ? Flag.urg : 0) |
        (this.has('pushf+') ? Flag.psh : 0),
      this.#otherwise,
    );
    asm.xWord(tcp + 4);
    this.zero(this.has('seq-'));
    if (answer) {
      asm.xWord(tcp + 8);
      this.zero(this.has('ack-'));
    } else {
      // Of a number that should not be there p0f looks at one bit only (on little-endian machines at this one).
      asm.xByte(tcp + 8);
      asm.op(Op.AND_K, 1);
      this.zero(!this.has('ack+'));
    }
    if (!this.has('urgf+')) {
      asm.xHalf(tcp + 18);
      this.zero(!this.has('uptr+'));
    }
  }

  /** The length of the TCP header, the payload, and that all of the packet is there: p0f passes over what was cut. */
  lengths(tcpBytes: number | undefined): void {
    const asm = this.#asm;
    const { payload } = this.#signature;
    const tcp = this.#network;
    asm.xByte(tcp + 12);
    asm.op(Op.AND_K, 0xf0);
    // Behind the fixed part of IPv6, in all of IPv4.
    const counted = this.#version === 4 ? this.#network : 0;
    if (tcpBytes === undefined) {
      asm.op(Op.RSH_K, 2);
      asm.branch(Op.JGE_K, TCP_BYTES, { no: this.#otherwise });
      asm.op(Op.ADD_K, tcp);
      asm.op(Op.ST, Word.headers);
      asm.op(Op.ADD_X);
      asm.op(Op.ST, Word.end);
    } else asm.need(tcpBytes << 2, this.#otherwise);
    const at = this.#version === 4 ? 2 : 4;
    // A: what follows the headers.
    if (tcpBytes === undefined) {
      asm.op(Op.LD_MEM, Word.headers);
      asm.op(Op.SUB_K, tcp - counted);
      asm.op(Op.ST, Word.scale);
      asm.xHalf(at);
      asm.op(Op.LDX_MEM, Word.scale);
      asm.branch(Op.JGE_X, 0, { no: this.#otherwise });
      if (payload !== 'any')
        asm.branch(Op.JEQ_X, 0, payload === 'none' ? { no: this.#otherwise } : { yes: this.#otherwise });
      asm.op(Op.LDX_MEM, Word.network);
    } else {
      const bytes = counted + tcpBytes;
      asm.xHalf(at);
      if (payload === 'none') asm.need(bytes, this.#otherwise);
      else asm.branch(Op.JGE_K, payload === 'some' ? bytes + 1 : bytes, { no: this.#otherwise });
    }
    asm.op(Op.ADD_X);
    asm.op(Op.ADD_K, (this.#version === 4 ? 0 : IPV6_BYTES) - 1);
    asm.op(Op.TAX);
    asm.xByte(0);
    asm.op(Op.LDX_MEM, Word.network);
  }

  /** The values that options bring, and the window. X is lost. */
  values(tcpBytes: number | undefined): void {
    const asm = this.#asm;
    const { mss, scale, window, options } = this.#signature;
    const tcp = this.#network;
    const otherwise = this.#otherwise;
    const offsets = valueOffsets(options);
    const loadMss = () => {
      if (tcpBytes === undefined) asm.op(Op.LD_MEM, Word.mss);
      else if (offsets.mss !== undefined) asm.xHalf(tcp + offsets.mss);
      else asm.op(Op.LD_IMM, 0);
    };
    if (tcpBytes === undefined) {
      asm.op(Op.LDX_MEM, Word.network);
      if (scale !== undefined) {
        asm.op(Op.LD_MEM, Word.scale);
        asm.need(scale, otherwise);
      }
    }
    if (mss !== undefined && (options.includes(TcpOption.mss) || tcpBytes === undefined)) {
      loadMss();
      asm.need(mss, otherwise);
    }
    if (window.kind === 'any') return;
    asm.xHalf(tcp + 14);
    if (window.kind === 'value') {
      asm.need(window.value, otherwise);
      return;
    }
    if (window.kind === 'modulo') {
      asm.op(Op.MOD_K, window.value);
      asm.need(0, otherwise);
      return;
    }
    const setting: WindowSetting = {
      version: this.#version,
      timestamp: timestampSeen(this.#signature),
      headers: tcpBytes === undefined ? undefined : this.#network + tcpBytes,
    };
    if (tcpBytes !== undefined && mss !== undefined && !needsMss(this.#signature)) {
      const match = asm.label();
      for (const value of windowsOf(window.kind, window.value, mss, setting))
        asm.branch(Op.JEQ_K, value, { yes: match });
      asm.jump(otherwise);
      asm.place(match);
      return;
    }
    asm.op(Op.ST, Word.window);
    loadMss();
    asm.op(Op.ST, Word.mss);
    multipleOf(
      asm,
      window,
      setting,
      { window: Word.window, mss: Word.mss, headers: Word.headers },
      otherwise,
    );
  }

  all(): void {
    const tcpBytes = headerBytes(this.#signature);
    if (this.#version === 4) this.ipv4();
    else this.ipv6();
    this.tcp();
    this.ecn();
    this.lengths(tcpBytes);
    if (tcpBytes === undefined)
      walkedOptions(this.#asm, this.#signature, this.#network + TCP_BYTES, this.#otherwise);
    else fixedOptions(this.#asm, this.#signature, this.#network, this.#otherwise);
    this.values(tcpBytes);
  }
}

/**
 * Classic BPF for packets that p0f would report as an exact match of one of the signatures. Returns `snaplen` for a match.
 * FILTER_INVALID for a signature that nothing can match.
 */
export function compileP0f(
  signatures: readonly P0fSignature[],
  text: string,
  linkType: number,
  snaplen: number,
): CbpfProgram {
  const asm = new Assembler();
  const match = asm.label();
  const other = asm.label();
  const network = { v4: asm.label(), v6: asm.label(), other };
  for (const signature of signatures) {
    const why = impossible(signature);
    if (why !== undefined) throw new FilterError(text, signature.span, `nothing matches this: ${why}`);
    const stamps = signature.options.filter((kind) => kind === TcpOption.ts).length;
    const multiple = signature.window.kind === 'mss' || signature.window.kind === 'mtu';
    if (
      multiple &&
      ((stamps > 0 && signature.quirks.has('bad')) || (stamps > 1 && signature.quirks.has('ts1-')))
    ) {
      throw new FilterError(text, signature.span, 'a multiple of the MSS does not go with such timestamps', {
        code: 'FILTER_UNSUPPORTED',
      });
    }
  }
  toNetwork(asm, linkType, network);
  for (const version of [4, 6] as const) {
    asm.place(version === 4 ? network.v4 : network.v6);
    asm.op(Op.STX, Word.network);
    asm.xByte(version === 4 ? 9 : 6);
    asm.need(TCP, other);
    for (const signature of signatures) {
      const bytes = networkBytes(signature, version);
      if (bytes === undefined) continue;
      const next = asm.label();
      asm.op(Op.LDX_MEM, Word.network);
      new SignatureCode(asm, signature, version, bytes, next).all();
      asm.jump(match);
      asm.place(next);
    }
    asm.jump(other);
  }
  asm.place(other);
  asm.ret(0);
  asm.place(match);
  asm.ret(snaplen);
  return asm.finish();
}
