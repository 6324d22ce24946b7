import { checksum, fold, onesSum } from './checksum.ts';

/** What a transport header needs of the IP header around it. */
export interface Addresses {
  src: Uint8Array;
  dst: Uint8Array;
}

/** A header that puts itself in front of what it carries. */
export interface Layer {
  readonly name: string;
  /** How an Ethernet type field names it. */
  readonly etherType?: number;
  /** How an IP protocol or next-header field names it. */
  readonly ipProto?: number;
  /** UDP port that its carrier is sent to when the builder is not told one. */
  readonly udpPort?: number;
  /** Addresses that the pseudo header of what it carries is made of. */
  readonly addresses?: Addresses;
  /** Where its checksum field is, from the start of the header. */
  readonly checksumAt?: number;
  encode(inner: Uint8Array, next: Layer | undefined, around: Addresses | undefined): Uint8Array;
}

/** Ethertype that stands for "nothing known" (IEEE local experimental 1). */
export const ETHERTYPE_NONE = 0x88b5;
export const PROTO_NONE = 59;

export function join(header: Uint8Array, inner: Uint8Array): Uint8Array {
  const out = new Uint8Array(header.length + inner.length);
  out.set(header, 0);
  out.set(inner, header.length);
  return out;
}

export function put16(u8: Uint8Array, at: number, value: number): void {
  u8[at] = value >>> 8;
  u8[at + 1] = value;
}

export function put32(u8: Uint8Array, at: number, value: number): void {
  put16(u8, at, value >>> 16);
  put16(u8, at + 2, value);
}

export function padded(bytes: Uint8Array, multiple: number): Uint8Array {
  const out = new Uint8Array(Math.ceil(bytes.length / multiple) * multiple);
  out.set(bytes);
  return out;
}

export function pseudo(around: Addresses | undefined, protocol: number, length: number): number {
  if (around === undefined) return 0;
  let sum = fold(protocol + (length >>> 16) + (length & 0xffff));
  sum = onesSum(around.src, 0, around.src.length, sum);
  return onesSum(around.dst, 0, around.dst.length, sum);
}

/** A field of a checksum that is filled in at `at` unless it is given. */
export function fillChecksum(out: Uint8Array, at: number, given: number | undefined, seed: number): void {
  put16(out, at, given ?? checksum(out, 0, out.length, seed));
}
