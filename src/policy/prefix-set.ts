import { sharedWords } from '../kernel/shared-words.ts';
import { ipBytes } from '../packet/address.ts';
import { compare, type Edges, isInside, prefixLines, upperBits } from './prefix-lines.ts';

/** Networks that a set may hold, of both families together. */
export const MAX_PREFIXES = 8_000_000;

/**
 * What a set is made of: plain numbers in shared memory, so that workers look into it without a copy. An edge is an address at
 * which the set begins or ends; behind an odd number of them an address is in it.
 */
export interface PrefixTable {
  readonly edges4: Edges;
  readonly lines4: Uint32Array;
  readonly edges6: Edges;
  readonly lines6: Uint32Array;
}

const CIDR = /^([0-9a-fA-F:.]+)(?:\/(\d{1,3}))?$/;

/** An address with its prefix length; undefined for what is none. Host bits may be set. */
export function parsePrefix(text: string): { bytes: Uint8Array; bits: number } | undefined {
  const match = CIDR.exec(text);
  const bytes = match === null ? undefined : ipBytes(match[1]);
  if (match === null || bytes === undefined) return undefined;
  const bits = match[2] === undefined ? bytes.length * 8 : Number(match[2]);
  return bits > bytes.length * 8 ? undefined : { bytes, bits };
}

/** Collects networks; `build` makes the table. */
export class PrefixTableBuilder {
  /** IPv4: first address * 64 + prefix length, which sorts wider networks before those within them. */
  #keys4 = new Float64Array(1024);
  #count4 = 0;
  /** IPv6: four words of the first address, then the length. */
  #words6 = new Uint32Array(1024 * 5);
  #count6 = 0;

  get size(): number {
    return this.#count4 + this.#count6;
  }

  add(bytes: Uint8Array, bits: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (bytes.length === 4) {
      if (this.#count4 === this.#keys4.length) this.#keys4 = grown(this.#keys4, Float64Array);
      this.#keys4[this.#count4++] = ((view.getUint32(0) & upperBits(bits)) >>> 0) * 64 + bits;
      return;
    }
    const at = this.#count6++ * 5;
    if (at === this.#words6.length) this.#words6 = grown(this.#words6, Uint32Array);
    for (let i = 0; i < 4; i++) this.#words6[at + i] = view.getUint32(i * 4) & upperBits(bits - i * 32);
    this.#words6[at + 4] = bits;
  }

  build(): PrefixTable {
    return { ...this.#build4(), ...this.#build6() };
  }

  #build4(): Pick<PrefixTable, 'edges4' | 'lines4'> {
    const keys = this.#keys4.subarray(0, this.#count4).sort();
    const edges = new Uint32Array(keys.length * 2);
    let count = 0;
    let end = -1;
    for (const key of keys) {
      const bits = key % 64;
      const start = (key - bits) / 64;
      const behind = start + 2 ** (32 - bits);
      if (behind <= end) continue;
      // Networks are disjoint or within each other; what follows without a gap goes on.
      if (start === end) count--;
      else edges[count++] = start;
      edges[count++] = behind;
      end = behind;
    }
    // Behind the last address there is nothing.
    if (end === 2 ** 32) count--;
    const edges4: Edges = { edges: shared(edges.subarray(0, count)), words: 1 };
    return { edges4, lines4: shared(prefixLines(edges4)) };
  }

  #build6(): Pick<PrefixTable, 'edges6' | 'lines6'> {
    const words = this.#words6;
    const order = Uint32Array.from({ length: this.#count6 }, (_, i) => i);
    order.sort((a, b) => {
      for (let i = 0; i < 5; i++) {
        const difference = words[a * 5 + i] - words[b * 5 + i];
        if (difference !== 0) return difference;
      }
      return 0;
    });
    const edges = new Uint32Array(order.length * 8);
    let count = 0;
    for (const entry of order) {
      const at = entry * 5;
      const gap = count === 0 ? 1 : compare(words, at, edges.subarray(count * 4 - 4), 4);
      // An odd number: the last network goes to the end of everything.
      if (gap < 0 || count % 2 === 1) continue;
      if (gap === 0) count--;
      else edges.set(words.subarray(at, at + 4), count++ * 4);
      if (putBehind(words, at, edges, count * 4)) count++;
    }
    const narrow = new Uint32Array(count * 2);
    let low = 0;
    for (let i = 0; i < count; i++) {
      narrow.set(edges.subarray(i * 4, i * 4 + 2), i * 2);
      low |= edges[i * 4 + 2] | edges[i * 4 + 3];
    }
    // Hardly anybody lists what is smaller than a /64: half as much to read.
    const edges6: Edges =
      low === 0
        ? { edges: shared(narrow), words: 2 }
        : { edges: shared(edges.subarray(0, count * 4)), words: 4 };
    return { edges6, lines6: shared(prefixLines(edges6)) };
  }
}

/** The first address behind the network at words[at]; false when there is none. */
function putBehind(words: Uint32Array, at: number, to: Uint32Array, place: number): boolean {
  const bits = words[at + 4];
  let carry = 1;
  for (let i = 3; i >= 0; i--) {
    const sum = ((words[at + i] | ~upperBits(bits - i * 32)) >>> 0) + carry;
    carry = sum > 0xffff_ffff ? 1 : 0;
    to[place + i] = sum;
  }
  return carry === 0;
}

/** Ranges of addresses without a gap. */
export function rangesIn({ edges4, edges6 }: PrefixTable): { ipv4: number; ipv6: number } {
  // The last one may go to the end of everything.
  return {
    ipv4: Math.ceil(edges4.edges.length / 2),
    ipv6: Math.ceil(edges6.edges.length / edges6.words / 2),
  };
}

const ADDRESS = new Uint32Array(4);

/** Whether the 4 or 16 bytes at u8[at] are an address of the table. */
export function hasAddress(table: PrefixTable, u8: Uint8Array, at: number, bytes: 4 | 16): boolean {
  for (let i = 0; i < bytes / 4; i++) {
    const o = at + i * 4;
    ADDRESS[i] = (u8[o] << 24) | (u8[o + 1] << 16) | (u8[o + 2] << 8) | u8[o + 3];
  }
  return bytes === 4
    ? isInside(table.lines4, table.edges4, ADDRESS)
    : isInside(table.lines6, table.edges6, ADDRESS);
}

type Numbers = Float64Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;

function grown<T extends Numbers>(array: T, type: new (length: number) => T): T {
  const wider = new type(array.length * 2);
  wider.set(array);
  return wider;
}

function shared(words: Uint32Array): Uint32Array {
  const copy = sharedWords(words.length);
  copy.set(words);
  return copy;
}
