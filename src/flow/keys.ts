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

/** Which side of the key the source is: the order of memcmp over (address, port). */
export function sourceSide(
  u8: Uint8Array,
  source: number,
  destination: number,
  addressBytes: number,
  sourcePort: number,
  destinationPort: number,
): Side {
  for (let i = 0; i < addressBytes; i++) {
    const difference = u8[source + i] - u8[destination + i];
    if (difference !== 0) return difference < 0 ? 0 : 1;
  }
  return sourcePort <= destinationPort ? 0 : 1;
}

/**
 * Writes the key of a packet at out[at] and returns the side that its source is: 16 bytes when the addresses (at
 * `source` and `destination` of `u8`) are IPv4 and there is no tunnel, else 48. Ports are in host order.
 */
export function writeGateKey(
  out: Uint8Array,
  at: number,
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
  const side = sourceSide(u8, source, destination, addressBytes, sourcePort, destinationPort);
  const low = side === 0 ? source : destination;
  const high = side === 0 ? destination : source;
  const lowPort = side === 0 ? sourcePort : destinationPort;
  const highPort = side === 0 ? destinationPort : sourcePort;
  const narrow = addressBytes === 4 && vxlan === 0 && geneve === 0;
  let to = at;
  if (narrow) {
    for (let i = 0; i < 4; i++) {
      out[to + i] = u8[low + i];
      out[to + 4 + i] = u8[high + i];
    }
    to += 8;
  } else {
    copyWide(out, to, u8, low, addressBytes);
    copyWide(out, to + 16, u8, high, addressBytes);
    to += 32;
  }
  out[to] = lowPort >>> 8;
  out[to + 1] = lowPort;
  out[to + 2] = highPort >>> 8;
  out[to + 3] = highPort;
  writeWord(out, to + 4, word);
  if (!narrow) {
    writeWord(out, to + 8, vxlan);
    writeWord(out, to + 12, geneve);
  }
  return side;
}

function copyWide(out: Uint8Array, to: number, u8: Uint8Array, from: number, bytes: 4 | 16): void {
  if (bytes === 16) {
    for (let i = 0; i < 16; i++) out[to + i] = u8[from + i];
    return;
  }
  for (let i = 0; i < 10; i++) out[to + i] = 0;
  out[to + 10] = 0xff;
  out[to + 11] = 0xff;
  for (let i = 0; i < 4; i++) out[to + 12 + i] = u8[from + i];
}

function writeWord(out: Uint8Array, to: number, value: number): void {
  out[to] = value;
  out[to + 1] = value >>> 8;
  out[to + 2] = value >>> 16;
  out[to + 3] = value >>> 24;
}
