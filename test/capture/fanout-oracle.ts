import type { Ends } from '../../bench/fanout-frames.ts';
import { ipv4Bytes, ipv6Bytes } from '../../src/packet/address.ts';

/** The numbers of bpf/fanout.bpf.c, for what has addresses and ports. */

export interface FlowOf {
  /** In network order, 4 or 16 bytes. */
  src: Uint8Array;
  dst: Uint8Array;
  sport: number;
  dport: number;
  protocol: number;
  /** Ids of the two outermost tags that have one, where they belong to the flow. */
  vlans: readonly number[];
}

function mix(hash: number, word: number): number {
  let h = hash ^ word;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function address(seed: number, bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let hash = seed;
  for (let at = 0; at < bytes.length; at += 4) hash = mix(hash, view.getUint32(at));
  return hash;
}

export function fanoutHash(flow: FlowOf, seed: number, pair: boolean): number {
  let src = address(seed, flow.src);
  let dst = address(seed, flow.dst);
  if (!pair) {
    src = mix(src, flow.sport);
    dst = mix(dst, flow.dport);
  }
  const [vlan = 0, inner = 0] = flow.vlans;
  return mix((src + dst) >>> 0, (pair ? 0 : flow.protocol) | ((vlan | (inner << 12)) << 8));
}

export function flowOf({ family, client, server, protocol }: Ends, vlans: readonly number[]): FlowOf {
  const bytes = (text: string): Uint8Array => {
    const found = family === 4 ? ipv4Bytes(text) : ipv6Bytes(text);
    if (found === undefined) throw new Error(`no address: ${text}`);
    return found;
  };
  return {
    src: bytes(client[0]),
    dst: bytes(server[0]),
    sport: client[1],
    dport: server[1],
    protocol: protocol === 'tcp' ? 6 : 17,
    vlans,
  };
}
