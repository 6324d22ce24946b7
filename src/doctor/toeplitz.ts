import type { RssFacts } from './machine.ts';

/** Addresses and ports of one direction, in network order: 4 or 16 bytes, and 2 bytes each. */
export interface Tuple {
  source: Uint8Array;
  destination: Uint8Array;
  sourcePort: number;
  destinationPort: number;
}

/** A key all of whose 16-bit words are equal hashes both directions alike, whatever its length (Woo and Park, 2012). */
const SYMMETRIC_WORD = [0x6d, 0x5a] as const;

export function symmetricKey(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => SYMMETRIC_WORD[i % 2]);
}

/** The hash of Microsoft's RSS: for each set bit of the data, the 32 bits of the key that begin there. */
export function toeplitz(key: Uint8Array, data: Uint8Array): number {
  let hash = 0;
  let window = 0;
  for (let i = 0; i < 4; i++) window = ((window << 8) | (key[i] ?? 0)) >>> 0;
  for (let i = 0; i < data.length; i++) {
    const next = key[i + 4] ?? 0;
    for (let bit = 7; bit >= 0; bit--) {
      if (((data[i] >> bit) & 1) === 1) hash ^= window;
      window = ((window << 1) | ((next >> bit) & 1)) >>> 0;
    }
  }
  return hash >>> 0;
}

/** RXH_XFRM_SYM_XOR and RXH_XFRM_SYM_OR_XOR of linux/ethtool.h. */
const Transform = { xor: 1, orXor: 2 } as const;

function mixed(a: Uint8Array, b: Uint8Array, transform: number): Uint8Array[] {
  const xor = a.map((byte, i) => byte ^ b[i]);
  if (transform === Transform.xor) return [xor, xor];
  if (transform === Transform.orXor) return [a.map((byte, i) => byte | b[i]), xor];
  return [a, b];
}

const port = (number: number): Uint8Array => Uint8Array.of(number >> 8, number & 0xff);

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** What a card hashes of a packet: the fields by the letters of ethtool, in the order in which cards take them. */
export function hashInput(tuple: Tuple, fields: string, transform: number): Uint8Array {
  const addresses = mixed(tuple.source, tuple.destination, transform);
  const ports = mixed(port(tuple.sourcePort), port(tuple.destinationPort), transform);
  return concat(
    [
      ['s', addresses[0]] as const,
      ['d', addresses[1]] as const,
      ['f', ports[0]] as const,
      ['n', ports[1]] as const,
    ].flatMap(([letter, bytes]) => (fields.includes(letter) ? [bytes] : [])),
  );
}

export const reversed = (tuple: Tuple): Tuple => ({
  source: tuple.destination,
  destination: tuple.source,
  sourcePort: tuple.destinationPort,
  destinationPort: tuple.sourcePort,
});

/** IPv6 without any shortening. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  return Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] << 8) | bytes[2 * i + 1]).toString(16)).join(':');
}

export const tupleText = ({ source, destination, sourcePort, destinationPort }: Tuple): string =>
  `${addressText(source)}:${sourcePort} → ${addressText(destination)}:${destinationPort}`;

/** The same tuples each time, spread over addresses and ports. */
export function sampleTuples(count: number, family: 4 | 6): Tuple[] {
  let state = 0x2545_f491;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const address = (): Uint8Array => Uint8Array.from({ length: family === 4 ? 4 : 16 }, () => next() & 0xff);
  return Array.from({ length: count }, () => ({
    source: address(),
    destination: address(),
    sourcePort: next() & 0xffff,
    destinationPort: next() & 0xffff,
  }));
}

export interface Symmetry {
  tuples: number;
  /** Of which the two directions come into different queues. */
  split: number;
  /** One of those, with its two queues. */
  example: { tuple: Tuple; there: number; back: number } | undefined;
  /** Queues that packets come into at all. */
  used: number;
}

export function keyBytes(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

/** Receive queue of a packet: the low bits of the hash choose a place in the table. */
export function queueOf(rss: RssFacts, key: Uint8Array, tuple: Tuple, fields: string): number {
  const hash = toeplitz(key, hashInput(tuple, fields, rss.transform));
  return rss.table[hash % rss.table.length] ?? 0;
}

/**
 * Both directions of sample connections through key, fields and table of a card. Undefined where that is not known: another
 * function than Toeplitz, no key.
 */
export function symmetry(rss: RssFacts, fields: string, family: 4 | 6, tuples = 1024): Symmetry | undefined {
  const key = keyBytes(rss.key);
  if (rss.function !== 'toeplitz' || key.length < 16 || rss.table.length === 0) return undefined;
  const used = new Set<number>();
  let split = 0;
  let example: Symmetry['example'];
  for (const tuple of sampleTuples(tuples, family)) {
    const there = queueOf(rss, key, tuple, fields);
    const back = queueOf(rss, key, reversed(tuple), fields);
    used.add(there);
    if (there === back) continue;
    split++;
    example ??= { tuple, there, back };
  }
  return { tuples, split, example, used: used.size };
}
