import { SAMPLE_HEAD, type SampleColumns } from './columns.ts';

const HEADER = 12;
const MAX_LABELS = 24;

const flags = (columns: SampleColumns, row: number): number =>
  columns.payloadAt[row] === 0 ? -1 : columns.number(row, columns.payloadAt[row] + 2, 2);

/** By the bit QR (RFC 1035 section 4.1.1), and a header that is there. */
export function isDnsResponse(columns: SampleColumns, row: number): boolean {
  const word = flags(columns, row);
  return word >= 0 && (word & 0x8000) !== 0;
}

export function isDnsQuery(columns: SampleColumns, row: number): boolean {
  const word = flags(columns, row);
  return word >= 0 && (word & 0xf800) === 0 && columns.number(row, columns.payloadAt[row] + 4, 2) === 1;
}

/** The name that a query is for, found in a row of samples; one object is used for all. */
export class QueryName {
  /** Labels, in bytes of `frames`: where each begins, and how long it is. */
  readonly at = new Uint32Array(MAX_LABELS);
  readonly size = new Uint8Array(MAX_LABELS);
  labels = 0;
  /** Of the labels that one registers a domain under: how many at the end. */
  owned = 0;
  /** 128 bits of hash of these, without regard to case. */
  readonly hash = new Uint32Array(4);

  /** False when there is none that is whole, or nothing before the registered domain. */
  read(columns: SampleColumns, row: number): boolean {
    const base = row * SAMPLE_HEAD;
    const end = base + columns.captured[row];
    const u8 = columns.frames;
    let at = base + columns.payloadAt[row] + HEADER;
    this.labels = 0;
    while (at < end && u8[at] !== 0) {
      const size = u8[at];
      if (size > 63 || at + 1 + size >= end || this.labels === MAX_LABELS) return false;
      this.at[this.labels] = at + 1;
      this.size[this.labels++] = size;
      at += 1 + size;
    }
    if (at >= end || this.labels < 3) return false;
    // Country codes with a second level of their own: co.uk, com.br.
    const last = this.labels - 1;
    this.owned = this.size[last] === 2 && this.size[last - 1] <= 3 && this.labels > 3 ? 3 : 2;
    this.#hash(u8);
    return true;
  }

  #hash(u8: Uint8Array): void {
    let a = 0x811c9dc5;
    let b = 0x9747b28c;
    for (let label = this.labels - this.owned; label < this.labels; label++) {
      const from = this.at[label] - 1;
      for (let i = from; i <= from + this.size[label]; i++) {
        const byte = u8[i] >= 65 && u8[i] <= 90 ? u8[i] | 32 : u8[i];
        a = Math.imul(a ^ byte, 0x01000193);
        b = Math.imul((b << 7) ^ (b >>> 11) ^ byte, 0x85ebca6b);
      }
    }
    this.hash[0] = 0;
    this.hash[1] = 0;
    this.hash[2] = b >>> 0;
    this.hash[3] = a >>> 0;
  }

  /** Of the registered domain; what is no letter, digit, dash or underscore as `?`. */
  text(u8: Uint8Array): string {
    return this.#join(u8, this.labels - this.owned, this.labels);
  }

  /** What stands before it. */
  host(u8: Uint8Array): string {
    return this.#join(u8, 0, this.labels - this.owned);
  }

  #join(u8: Uint8Array, from: number, to: number): string {
    const parts: string[] = [];
    for (let label = from; label < to; label++) {
      const begin = this.at[label];
      parts.push(
        String.fromCharCode(...u8.subarray(begin, begin + this.size[label]))
          .toLowerCase()
          .replace(/[^a-z0-9_-]/g, '?'),
      );
    }
    return parts.join('.');
  }
}
