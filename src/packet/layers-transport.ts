import { checksum, crc32c } from './checksum.ts';
import {
  type Addresses,
  ETHERTYPE_NONE,
  fillChecksum,
  join,
  type Layer,
  padded,
  pseudo,
  put16,
  put32,
} from './layer.ts';

/** Encoders of transport and tunnel headers for src/packet/build.ts. */

export interface UdpOptions {
  sport?: number;
  /** Port 4789 before VXLAN, 6081 before GENEVE, else 53 unless given. */
  dport?: number;
  length?: number;
  /** 0 sends none. */
  checksum?: number;
}

export function udpLayer(options: UdpOptions = {}): Layer {
  return {
    name: 'udp',
    ipProto: 17,
    checksumAt: 6,
    encode(inner, next, around) {
      const out = join(new Uint8Array(8), inner);
      put16(out, 0, options.sport ?? 40_000);
      put16(out, 2, options.dport ?? next?.udpPort ?? 53);
      put16(out, 4, options.length ?? out.length);
      // A computed zero is sent as all ones: zero means that there is none (RFC 768).
      put16(
        out,
        6,
        options.checksum ?? (checksum(out, 0, out.length, pseudo(around, 17, out.length)) || 0xffff),
      );
      return out;
    },
  };
}

export interface IcmpOptions {
  type?: number;
  code?: number;
  id?: number;
  seq?: number;
  /** The second word of the header as a whole, instead of id and seq. */
  rest?: number;
  checksum?: number;
}

function icmpEncoder(
  options: IcmpOptions,
  type: number,
  seed: (out: Uint8Array, around: Addresses | undefined) => number,
): Layer['encode'] {
  return (inner, _next, around) => {
    const out = join(new Uint8Array(8), inner);
    out[0] = options.type ?? type;
    out[1] = options.code ?? 0;
    put32(out, 4, options.rest ?? ((options.id ?? 1) << 16) | (options.seq ?? 1));
    fillChecksum(out, 2, options.checksum, seed(out, around));
    return out;
  };
}

/** Echo request unless told otherwise. */
export function icmpLayer(options: IcmpOptions = {}): Layer {
  return { name: 'icmp', ipProto: 1, checksumAt: 2, encode: icmpEncoder(options, 8, () => 0) };
}

/** Echo request unless told otherwise. */
export function icmpv6Layer(options: IcmpOptions = {}): Layer {
  const encode = icmpEncoder(options, 128, (out, around) => pseudo(around, 58, out.length));
  return { name: 'icmpv6', ipProto: 58, checksumAt: 2, encode };
}

export interface SctpOptions {
  sport?: number;
  dport?: number;
  tag?: number;
  /** CRC-32C; filled in unless given. */
  checksum?: number;
}

/** What it carries are the chunks. */
export function sctpLayer(options: SctpOptions = {}): Layer {
  return {
    name: 'sctp',
    ipProto: 132,
    checksumAt: 8,
    encode(inner) {
      const out = join(new Uint8Array(12), inner);
      put16(out, 0, options.sport ?? 40_000);
      put16(out, 2, options.dport ?? 5000);
      put32(out, 4, options.tag ?? 1);
      new DataView(out.buffer).setUint32(8, options.checksum ?? crc32c(out, 0, out.length), true);
      return out;
    },
  };
}

export interface GreOptions {
  key?: number;
  seq?: number;
  /** Whether to carry a checksum. */
  checksum?: boolean;
  version?: number;
  protocol?: number;
}

export function greLayer(options: GreOptions = {}): Layer {
  return {
    name: 'gre',
    ipProto: 47,
    ...(options.checksum ? { checksumAt: 4 } : {}),
    encode(inner, next) {
      const { key, seq } = options;
      const optional = (options.checksum ? 4 : 0) + (key === undefined ? 0 : 4) + (seq === undefined ? 0 : 4);
      const out = join(new Uint8Array(4 + optional), inner);
      const flags =
        (options.checksum ? 0x8000 : 0) | (key === undefined ? 0 : 0x2000) | (seq === undefined ? 0 : 0x1000);
      put16(out, 0, flags | (options.version ?? 0));
      put16(out, 2, options.protocol ?? next?.etherType ?? ETHERTYPE_NONE);
      let at = options.checksum ? 8 : 4;
      if (key !== undefined) {
        put32(out, at, key);
        at += 4;
      }
      if (seq !== undefined) put32(out, at, seq);
      if (options.checksum) fillChecksum(out, 4, undefined, 0);
      return out;
    },
  };
}

export interface VxlanOptions {
  vni?: number;
  /** First byte; 0x08 says that the VNI is valid. */
  flags?: number;
}

export function vxlanLayer(options: VxlanOptions = {}): Layer {
  return {
    name: 'vxlan',
    udpPort: 4789,
    encode(inner) {
      const out = join(new Uint8Array(8), inner);
      out[0] = options.flags ?? 0x08;
      put32(out, 4, (options.vni ?? 1) << 8);
      return out;
    },
  };
}

export interface GeneveOptions {
  vni?: number;
  oam?: boolean;
  critical?: boolean;
  protocol?: number;
  options?: { class: number; type: number; data: Uint8Array }[];
}

export function geneveLayer(options: GeneveOptions = {}): Layer {
  return {
    name: 'geneve',
    udpPort: 6081,
    encode(inner, next) {
      const parts: number[] = [];
      for (const option of options.options ?? []) {
        const data = padded(option.data, 4);
        parts.push(option.class >>> 8, option.class & 0xff, option.type, data.length / 4, ...data);
      }
      const out = join(new Uint8Array(8 + parts.length), inner);
      out[0] = parts.length / 4;
      out[1] = (options.oam ? 0x80 : 0) | (options.critical ? 0x40 : 0);
      put16(out, 2, options.protocol ?? next?.etherType ?? ETHERTYPE_NONE);
      put32(out, 4, (options.vni ?? 1) << 8);
      out.set(parts, 8);
      return out;
    },
  };
}

export interface TcpOptions {
  sport?: number;
  dport?: number;
  seq?: number;
  ack?: number;
  /** Letters of F S R P A U E C; `A` unless given. */
  flags?: string;
  window?: number;
  urgent?: number;
  options?: TcpOption[];
  checksum?: number;
  /** Header length field in 32-bit words. */
  dataOffset?: number;
}

export type TcpOption =
  | { mss: number }
  | { windowScale: number }
  | { sackPermitted: true }
  | { sack: [left: number, right: number][] }
  | { timestamps: [value: number, echo: number] }
  | { nop: true }
  | { raw: Uint8Array };

function tcpOption(option: TcpOption): Uint8Array {
  if ('mss' in option) return Uint8Array.of(2, 4, option.mss >>> 8, option.mss & 0xff);
  if ('windowScale' in option) return Uint8Array.of(3, 3, option.windowScale);
  if ('sackPermitted' in option) return Uint8Array.of(4, 2);
  if ('nop' in option) return Uint8Array.of(1);
  if ('raw' in option) return option.raw;
  const words = 'sack' in option ? option.sack.flat() : option.timestamps;
  const out = new Uint8Array(2 + 4 * words.length);
  out[0] = 'sack' in option ? 5 : 8;
  out[1] = out.length;
  for (const [index, word] of words.entries()) put32(out, 2 + 4 * index, word);
  return out;
}

const TCP_FLAGS = 'FSRPAUEC';

export function tcpLayer(options: TcpOptions = {}): Layer {
  let flags = 0;
  for (const letter of options.flags ?? 'A') {
    const bit = TCP_FLAGS.indexOf(letter);
    if (bit < 0) throw new TypeError(`not a TCP flag: ${letter}`);
    flags |= 1 << bit;
  }
  const extra = padded(Buffer.concat((options.options ?? []).map(tcpOption)), 4);
  return {
    name: 'tcp',
    ipProto: 6,
    checksumAt: 16,
    encode(inner, _next, around) {
      const header = new Uint8Array(20 + extra.length);
      put16(header, 0, options.sport ?? 40_000);
      put16(header, 2, options.dport ?? 80);
      put32(header, 4, options.seq ?? 0);
      put32(header, 8, options.ack ?? 0);
      header[12] = (options.dataOffset ?? header.length / 4) << 4;
      header[13] = flags;
      put16(header, 14, options.window ?? 65_535);
      put16(header, 18, options.urgent ?? 0);
      header.set(extra, 20);
      const out = join(header, inner);
      fillChecksum(out, 16, options.checksum, pseudo(around, 6, out.length));
      return out;
    },
  };
}

export function rawLayer(bytes: Uint8Array): Layer {
  return { name: 'raw', encode: (inner) => (inner.length === 0 ? bytes : join(bytes, inner)) };
}

/** The same header with a checksum field that is wrong, and never 0 ("none" in UDP). */
export function spoiled(layer: Layer): Layer {
  const at = layer.checksumAt;
  if (at === undefined) throw new TypeError(`${layer.name} has no checksum to spoil`);
  return {
    ...layer,
    encode(inner, next, around) {
      const out = layer.encode(inner, next, around);
      out[at] = out[at] ^ 0x12;
      out[at + 1] = out[at + 1] ^ (out[at + 1] === 0x34 ? 0x35 : 0x34);
      return out;
    },
  };
}
