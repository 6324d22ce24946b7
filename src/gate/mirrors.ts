import type { EncapKind, Encapsulation } from '../packet/encap/index.ts';
import { LinkType } from '../packet/link/types.ts';
import { SlMirror, SlMirrorKey } from './layout.gen.ts';
import { tunnelBit } from './tunnels.ts';

const K = SlMirrorKey.members;
const M = SlMirror.members;
const MAPPED_AT = 10;

/** Bytes before the header or the frame of a datagram: more than that is beyond what the gate looks at. */
const MAX_SKIP = 512;

/** What frames begin with where their mirror's header does not say it (sl_mirror.link). */
const ETHERNET = 0x6558;
const IP = 0;

/** SL_MIRROR_RAW of bpf/gate.h: nothing is around the frames. */
const RAW = 16;
/** Bits of sl_mirror.kind. */
const KIND: Readonly<Record<EncapKind, number>> = {
  vxlan: tunnelBit('vxlan'),
  geneve: tunnelBit('geneve'),
  'geneve+vxlan': tunnelBit('geneve') | tunnelBit('vxlan'),
  raw: RAW,
};

/** Why the gate cannot look into this encapsulation, and what it can; undefined when it can. */
export function mirrorUnfit({
  kind,
  skip,
  linkType,
}: Encapsulation): { why: string; instead: string } | undefined {
  if (kind !== 'geneve' && linkType === LinkType.ppp)
    return { why: 'the gate does not look into PPP', instead: 'it knows dlt=en10mb and dlt=raw' };
  if (skip > MAX_SKIP)
    return { why: `the gate does not look behind ${skip} bytes`, instead: `it skips up to ${MAX_SKIP}` };
  return undefined;
}

/** struct sl_mirror_key: where a mirror ends. `address` in 4 or 16 bytes. */
export function mirrorKey(address: Uint8Array, port: number): Uint8Array {
  const key = new Uint8Array(SlMirrorKey.size);
  if (address.length === 4) key.fill(0xff, K.addr + MAPPED_AT, K.addr + MAPPED_AT + 2);
  key.set(address, K.addr + 16 - address.length);
  new DataView(key.buffer).setUint16(K.port, port);
  return key;
}

/** struct sl_mirror: what a mirror puts around its frames, and the owners of its entries, first and last. */
export function mirrorRow(
  { kind, skip, linkType }: Encapsulation,
  [first, last]: readonly [number, number],
): Uint8Array {
  const row = new Uint8Array(SlMirror.size);
  const [words, halves] = [new Uint32Array(row.buffer), new Uint16Array(row.buffer)];
  words[M.kind / 4] = KIND[kind];
  halves[M.skip / 2] = skip;
  halves[M.link / 2] = linkType === LinkType.raw ? IP : ETHERNET;
  halves[M.first_owner / 2] = first;
  halves[M.last_owner / 2] = last;
  return row;
}
