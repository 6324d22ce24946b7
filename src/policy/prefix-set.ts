import { ipBytes } from '../packet/address.ts';

/** Networks that a set may hold, of both families together. */
export const MAX_PREFIXES = 8_000_000;

/** What a set is made of: plain numbers in shared memory, so that workers look into it without a copy. */
export interface PrefixTable {
  /** Disjoint ranges of IPv4 addresses in order: first and last of each. */
  readonly first4: Uint32Array;
  readonly last4: Uint32Array;
  /** By the upper 16 bits of an address: the first range that may hold it. */
  readonly index4: Uint32Array;
  /** Disjoint ranges of IPv6 addresses in order, four words each. */
  readonly first6: Uint32Array;
  readonly last6: Uint32Array;
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
      this.#keys4[this.#count4++] = ((view.getUint32(0) & maskOf(bits)) >>> 0) * 64 + bits;
      return;
    }
    const at = this.#count6++ * 5;
    if (at === this.#words6.length) this.#words6 = grown(this.#words6, Uint32Array);
    for (let i = 0; i < 4; i++) this.#words6[at + i] = view.getUint32(i * 4) & maskOf(bits - i * 32);
    this.#words6[at + 4] = bits;
  }

  build(): PrefixTable {
    return { ...this.#build4(), ...this.#build6() };
  }

  #build4(): Pick<PrefixTable, 'first4' | 'last4' | 'index4'> {
    const keys = this.#keys4.subarray(0, this.#count4).sort();
    const first = new Uint32Array(keys.length);
    const last = new Uint32Array(keys.length);
    let count = 0;
    let end = -1;
    for (const key of keys) {
      const bits = key % 64;
      const start = (key - bits) / 64;
      const stop = start + 2 ** (32 - bits) - 1;
      if (stop <= end) continue;
      // Networks are disjoint or within each other; what follows without a gap is one range.
      if (count > 0 && start === end + 1) last[count - 1] = stop;
      else {
        first[count] = start;
        last[count++] = stop;
      }
      end = stop;
    }
    const index4 = shared(Uint32Array, 65_537);
    let range = 0;
    for (let high = 0; high < 65_536; high++) {
      while (range < count && last[range] < high * 65_536) range++;
      index4[high] = range;
    }
    index4[65_536] = count;
    return { first4: copied(first, count), last4: copied(last, count), index4 };
  }

  #build6(): Pick<PrefixTable, 'first6' | 'last6'> {
    const words = this.#words6;
    const order = Uint32Array.from({ length: this.#count6 }, (_, i) => i);
    order.sort((a, b) => {
      for (let i = 0; i < 5; i++) {
        const difference = words[a * 5 + i] - words[b * 5 + i];
        if (difference !== 0) return difference;
      }
      return 0;
    });
    const first = new Uint32Array(order.length * 4);
    const last = new Uint32Array(order.length * 4);
    let count = 0;
    for (const entry of order) {
      const at = entry * 5;
      if (count > 0 && compare(words, at, last, (count - 1) * 4) <= 0) continue;
      const bits = words[at + 4];
      for (let i = 0; i < 4; i++) {
        first[count * 4 + i] = words[at + i];
        last[count * 4 + i] = words[at + i] | ~maskOf(bits - i * 32);
      }
      count++;
    }
    return { first6: copied(first, count * 4), last6: copied(last, count * 4) };
  }
}

/** Whether the 4 or 16 bytes at u8[at] are an address of the table. */
export function hasAddress(table: PrefixTable, u8: Uint8Array, at: number, bytes: 4 | 16): boolean {
  return bytes === 4 ? has4(table, u8, at) : has6(table, u8, at);
}

function has4({ first4, last4, index4 }: PrefixTable, u8: Uint8Array, at: number): boolean {
  const high = (u8[at] << 8) | u8[at + 1];
  const address = high * 65_536 + ((u8[at + 2] << 8) | u8[at + 3]);
  let low = index4[high];
  // The last range that begins no later than the address.
  let end = Math.min(first4.length, index4[high + 1] + 1);
  while (low < end) {
    const middle = (low + end) >>> 1;
    if (first4[middle] <= address) low = middle + 1;
    else end = middle;
  }
  return low > 0 && last4[low - 1] >= address;
}

const ADDRESS = new Uint32Array(4);

function has6({ first6, last6 }: PrefixTable, u8: Uint8Array, at: number): boolean {
  for (let i = 0; i < 4; i++) {
    const o = at + i * 4;
    ADDRESS[i] = (u8[o] << 24) | (u8[o + 1] << 16) | (u8[o + 2] << 8) | u8[o + 3];
  }
  let low = 0;
  let end = first6.length >>> 2;
  while (low < end) {
    const middle = (low + end) >>> 1;
    if (compare(first6, middle * 4, ADDRESS, 0) <= 0) low = middle + 1;
    else end = middle;
  }
  return low > 0 && compare(last6, (low - 1) * 4, ADDRESS, 0) >= 0;
}

function compare(a: Uint32Array, at: number, b: Uint32Array, bt: number): number {
  for (let i = 0; i < 4; i++) {
    const difference = a[at + i] - b[bt + i];
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The upper `bits` of 32; none for 0 and less, all for 32 and more. */
function maskOf(bits: number): number {
  return bits <= 0 ? 0 : bits >= 32 ? -1 : -1 << (32 - bits);
}

type Numbers = Float64Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;

function grown<T extends Numbers>(array: T, type: new (length: number) => T): T {
  const wider = new type(array.length * 2);
  wider.set(array);
  return wider;
}

function shared(type: Uint32ArrayConstructor, length: number): Uint32Array {
  return new type(new SharedArrayBuffer(length * 4));
}

function copied(array: Uint32Array, length: number): Uint32Array {
  const copy = shared(Uint32Array, length);
  copy.set(array.subarray(0, length));
  return copy;
}
