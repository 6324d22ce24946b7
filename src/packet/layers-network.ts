import { ipBytes, ipv4Bytes, ipv6Bytes, macBytes } from './address.ts';
import { ETHERTYPE_NONE, fillChecksum, join, type Layer, PROTO_NONE, padded, put16, put32 } from './layer.ts';

/** Encoders of link and network headers for src/packet/build.ts; they know nothing of decoding, so that one checks the other. */

function mac(text: string): Uint8Array {
  const bytes = macBytes(text);
  if (bytes === undefined) throw new TypeError(`not a MAC address: ${text}`);
  return bytes;
}

export interface EthOptions {
  src?: string;
  dst?: string;
  /** Ethertype; follows from what is inside unless given. */
  type?: number;
}

export function ethLayer(options: EthOptions = {}): Layer {
  const header = new Uint8Array(14);
  header.set(mac(options.dst ?? '02:00:00:00:00:02'), 0);
  header.set(mac(options.src ?? '02:00:00:00:00:01'), 6);
  return {
    name: 'eth',
    etherType: 0x6558,
    encode(inner, next) {
      const out = join(header, inner);
      put16(out, 12, options.type ?? next?.etherType ?? ETHERTYPE_NONE);
      return out;
    },
  };
}

export interface VlanOptions {
  /** Priority code point, 0 to 7. */
  prio?: number;
  dei?: boolean;
  /** Tag protocol identifier: 0x8100, 0x88a8, 0x9100. */
  tpid?: number;
  type?: number;
}

export function vlanLayer(id: number, options: VlanOptions = {}): Layer {
  return {
    name: 'vlan',
    etherType: options.tpid ?? 0x8100,
    encode(inner, next) {
      const out = join(new Uint8Array(4), inner);
      put16(out, 0, ((options.prio ?? 0) << 13) | (options.dei ? 0x1000 : 0) | (id & 0xfff));
      put16(out, 2, options.type ?? next?.etherType ?? ETHERTYPE_NONE);
      return out;
    },
  };
}

export interface MplsOptions {
  tc?: number;
  ttl?: number;
  /** Bottom of stack; by default when no label follows. */
  bottom?: boolean;
}

export function mplsLayer(label: number, options: MplsOptions = {}): Layer {
  return {
    name: 'mpls',
    etherType: 0x8847,
    ipProto: 137,
    encode(inner, next) {
      const out = join(new Uint8Array(4), inner);
      const bottom = options.bottom ?? next?.name !== 'mpls';
      put32(out, 0, (label << 12) | ((options.tc ?? 0) << 9) | (bottom ? 0x100 : 0) | (options.ttl ?? 64));
      return out;
    },
  };
}

export interface PppoeOptions {
  session?: number;
  code?: number;
  length?: number;
  /** PPP protocol; 0x0021 IPv4, 0x0057 IPv6. */
  protocol?: number;
}

export function pppoeLayer(options: PppoeOptions = {}): Layer {
  return {
    name: 'pppoe',
    etherType: 0x8864,
    encode(inner, next) {
      const out = join(new Uint8Array(8), inner);
      out[0] = 0x11;
      out[1] = options.code ?? 0;
      put16(out, 2, options.session ?? 1);
      put16(out, 4, options.length ?? inner.length + 2);
      put16(out, 6, options.protocol ?? (next?.name === 'ipv6' ? 0x0057 : 0x0021));
      return out;
    },
  };
}

export interface Fragment {
  /** In bytes; a multiple of 8. */
  offset: number;
  more: boolean;
}

export interface Ipv4Options {
  src?: string;
  dst?: string;
  ttl?: number;
  tos?: number;
  id?: number;
  dontFragment?: boolean;
  fragment?: Fragment;
  /** Raw option bytes, padded with zeros to a multiple of four. */
  options?: Uint8Array;
  protocol?: number;
  totalLength?: number;
  checksum?: number;
  version?: number;
  /** Header length field in 32-bit words. */
  ihl?: number;
}

export function ipv4Layer(options: Ipv4Options = {}): Layer {
  const src = ipv4Bytes(options.src ?? '10.0.0.1');
  const dst = ipv4Bytes(options.dst ?? '10.0.0.2');
  if (src === undefined || dst === undefined)
    throw new TypeError(`not IPv4: ${options.src} or ${options.dst}`);
  const extra = padded(options.options ?? new Uint8Array(0), 4);
  return {
    name: 'ipv4',
    etherType: 0x0800,
    ipProto: 4,
    addresses: { src, dst },
    checksumAt: 10,
    encode(inner, next) {
      const header = new Uint8Array(20 + extra.length);
      header[0] = ((options.version ?? 4) << 4) | (options.ihl ?? header.length / 4);
      header[1] = options.tos ?? 0;
      put16(header, 2, options.totalLength ?? header.length + inner.length);
      put16(header, 4, options.id ?? 0);
      const { offset, more } = options.fragment ?? { offset: 0, more: false };
      put16(header, 6, (options.dontFragment ? 0x4000 : 0) | (more ? 0x2000 : 0) | (offset >>> 3));
      header[8] = options.ttl ?? 64;
      header[9] = options.protocol ?? next?.ipProto ?? PROTO_NONE;
      header.set(src, 12);
      header.set(dst, 16);
      header.set(extra, 20);
      fillChecksum(header, 10, options.checksum, 0);
      return join(header, inner);
    },
  };
}

export interface Ipv6Options {
  src?: string;
  dst?: string;
  hopLimit?: number;
  trafficClass?: number;
  flowLabel?: number;
  nextHeader?: number;
  payloadLength?: number;
  version?: number;
  /** Where the packet ends up when a routing header leads it on: the address of the pseudo header. */
  finalDst?: string;
}

export function ipv6Layer(options: Ipv6Options = {}): Layer {
  const src = ipv6Bytes(options.src ?? 'fd00::1');
  const dst = ipv6Bytes(options.dst ?? 'fd00::2');
  const last = options.finalDst === undefined ? dst : ipv6Bytes(options.finalDst);
  if (src === undefined || dst === undefined || last === undefined) {
    throw new TypeError(`not IPv6: ${options.src}, ${options.dst} or ${options.finalDst}`);
  }
  return {
    name: 'ipv6',
    etherType: 0x86dd,
    ipProto: 41,
    addresses: { src, dst: last },
    encode(inner, next) {
      const header = new Uint8Array(40);
      put32(
        header,
        0,
        ((options.version ?? 6) << 28) | ((options.trafficClass ?? 0) << 20) | (options.flowLabel ?? 0),
      );
      put16(header, 4, options.payloadLength ?? inner.length);
      header[6] = options.nextHeader ?? next?.ipProto ?? PROTO_NONE;
      header[7] = options.hopLimit ?? 64;
      header.set(src, 8);
      header.set(dst, 24);
      return join(header, inner);
    },
  };
}

/** Hop-by-hop (0) or destination (60) options: raw option bytes, filled up with PadN to a multiple of eight. */
export function optionsLayer(
  kind: 'hopByHop' | 'destination',
  options: Uint8Array,
  nextHeader?: number,
): Layer {
  return {
    name: kind,
    ipProto: kind === 'hopByHop' ? 0 : 60,
    encode(inner, next) {
      const header = padded(join(new Uint8Array(2), options), 8);
      const gap = header.length - 2 - options.length;
      if (gap >= 2) header.set([1, gap - 2], 2 + options.length);
      header[0] = nextHeader ?? next?.ipProto ?? PROTO_NONE;
      header[1] = header.length / 8 - 1;
      return join(header, inner);
    },
  };
}

export interface RoutingOptions {
  type?: number;
  segmentsLeft?: number;
  addresses?: string[];
  nextHeader?: number;
}

export function routingLayer(options: RoutingOptions = {}): Layer {
  const addresses = options.addresses ?? [];
  return {
    name: 'routing',
    ipProto: 43,
    encode(inner, next) {
      const header = new Uint8Array(8 + 16 * addresses.length);
      header[0] = options.nextHeader ?? next?.ipProto ?? PROTO_NONE;
      header[1] = 2 * addresses.length;
      header[2] = options.type ?? 0;
      header[3] = options.segmentsLeft ?? 0;
      for (const [index, text] of addresses.entries()) {
        const bytes = ipBytes(text);
        if (bytes?.length !== 16) throw new TypeError(`not IPv6: ${text}`);
        header.set(bytes, 8 + 16 * index);
      }
      return join(header, inner);
    },
  };
}

export interface Fragment6Options extends Fragment {
  id?: number;
  nextHeader?: number;
}

export function fragment6Layer(options: Fragment6Options): Layer {
  return {
    name: 'fragment',
    ipProto: 44,
    encode(inner, next) {
      const header = new Uint8Array(8);
      header[0] = options.nextHeader ?? next?.ipProto ?? PROTO_NONE;
      put16(header, 2, (options.offset & 0xfff8) | (options.more ? 1 : 0));
      put32(header, 4, options.id ?? 0);
      return join(header, inner);
    },
  };
}

export interface AhOptions {
  spi?: number;
  seq?: number;
  /** Integrity check value; 12 bytes by default. */
  icv?: Uint8Array;
  nextHeader?: number;
}

export function ahLayer(options: AhOptions = {}): Layer {
  const icv = options.icv ?? new Uint8Array(12);
  return {
    name: 'ah',
    ipProto: 51,
    encode(inner, next) {
      const header = padded(join(new Uint8Array(12), icv), 4);
      header[0] = options.nextHeader ?? next?.ipProto ?? PROTO_NONE;
      header[1] = header.length / 4 - 2;
      put32(header, 4, options.spi ?? 1);
      put32(header, 8, options.seq ?? 1);
      return join(header, inner);
    },
  };
}
