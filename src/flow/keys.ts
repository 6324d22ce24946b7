import { viewOf } from '../packet/view.ts';
import type { Side } from './types.ts';

/**
 * Keys of flows, byte for byte those of the gate (struct sl_key4, sl_key6):
 *
 *   4, without tunnel: low address 4 · high address 4 · low port 2 · high port 2 · word 4
 *   6 and tunnelled:   low address 16 · high address 16 · low port 2 · high port 2 · word 4 · VXLAN id 4 · GENEVE id 4
 *
 * Addresses and ports in network order; the word (protocol | VLAN << 8 | inner VLAN << 20) and the ids in the order of
 * the host, which is little endian on every machine that this runs on. "low" is the endpoint that comes first when
 * (address, port) are compared as bytes. IPv4 inside of a tunnel is mapped (::ffff:a.b.c.d). ICMP: the type is the
 * sender's port, its counterpart the other's; a type without counterpart is 0x8000 | type against the code.
 */
export const KEY4_BYTES = 16;
export const KEY6_BYTES = 48;

/** The word of a key; VLAN ids are 0 unless VLANs are to be told apart. */
export function keyWord(protocol: number, vlan: number, innerVlan: number): number {
  return protocol | (vlan << 8) | (innerVlan << 20);
}

/** A word of the key in which these 32 bits lie in network order. */
function swapped(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

/** Two ports in network order, the first in front. */
function portsWord(first: number, second: number): number {
  return swapped((first << 16) | second);
}

/**
 * Writes the key of a packet into `out`, whose bytes are then the key, and returns the side that its source is:
 * 4 words when the addresses (at `source` and `destination` of `u8`) are IPv4 and there is no tunnel, else 12. Ports
 * are in host order. Whole words, for they are read again at once.
 */
export function writeGateKey(
  out: Int32Array,
  addressBytes: 4 | 16,
  u8: Uint8Array,
  source: number,
  destination: number,
  sourcePort: number,
  destinationPort: number,
  word: number,
  vxlan: number,
  geneve: number,
): Side {
  if (addressBytes === 16 || vxlan !== 0 || geneve !== 0) {
    const side = writeWide(out, addressBytes, u8, source, destination, sourcePort <= destinationPort ? 0 : 1);
    out[8] = side === 0 ? portsWord(sourcePort, destinationPort) : portsWord(destinationPort, sourcePort);
    out[9] = word;
    out[10] = vxlan;
    out[11] = geneve;
    return side;
  }
  const view = viewOf(u8);
  const from = view.getUint32(source);
  const to = view.getUint32(destination);
  out[3] = word;
  if (from < to || (from === to && sourcePort <= destinationPort)) {
    out[0] = view.getInt32(source, true);
    out[1] = view.getInt32(destination, true);
    out[2] = portsWord(sourcePort, destinationPort);
    return 0;
  }
  out[0] = view.getInt32(destination, true);
  out[1] = view.getInt32(source, true);
  out[2] = portsWord(destinationPort, sourcePort);
  return 1;
}

/** Both addresses in 16 bytes, the lower one first; `equal` is the side when they are the same. */
function writeWide(
  out: Int32Array,
  addressBytes: 4 | 16,
  u8: Uint8Array,
  source: number,
  destination: number,
  equal: Side,
): Side {
  const view = viewOf(u8);
  let side = equal;
  for (let i = 0; i < addressBytes; i += 4) {
    const from = view.getUint32(source + i);
    const to = view.getUint32(destination + i);
    if (from === to) continue;
    side = from < to ? 0 : 1;
    break;
  }
  const low = side === 0 ? source : destination;
  const high = side === 0 ? destination : source;
  let at = 0;
  if (addressBytes === 4) {
    out[0] = out[1] = out[4] = out[5] = 0;
    out[2] = out[6] = swapped(0xffff);
    at = 3;
  }
  for (let i = 0; i < addressBytes; i += 4, at++) {
    out[at] = view.getInt32(low + i, true);
    out[at + 4] = view.getInt32(high + i, true);
  }
  return side;
}
