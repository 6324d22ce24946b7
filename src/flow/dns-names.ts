import { u16be } from './services/bytes.ts';

const HEADER = 12;
const RESPONSE = 0x80;
const TYPE_A = 1;
const TYPE_AAAA = 28;
const CLASS_IN = 1;
const MAX_NAME = 255;
/** Records of one answer that are looked at. */
const MAX_RECORDS = 64;
/** An answer is remembered for longer than it says, as resolvers and programs do: connections come later. */
const LEAST_SECONDS = 300;
const MOST_SECONDS = 86_400;

interface Known {
  name: string;
  until: number;
}

/**
 * Which name last led to an address: from the answers of DNS that went by (RFC 1035 section 4). The name is the one that
 * was asked for, whatever aliases lay between. Bounded: the answer that is oldest goes first.
 */
export class DnsNames {
  readonly #max: number;
  /** By address, as its bytes in a string; in the order in which they were learned. */
  readonly #known = new Map<string, Known>();

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#known.size;
  }

  /** A datagram from or to a DNS port. Never throws, whatever the bytes. */
  learn(u8: Uint8Array, offset: number, bytes: number, now: number): void {
    const end = offset + bytes;
    if (bytes < HEADER || (u8[offset + 2] & RESPONSE) === 0 || (u8[offset + 3] & 15) !== 0) return;
    if (u16be(u8, offset + 4) !== 1) return;
    const answers = Math.min(MAX_RECORDS, u16be(u8, offset + 6));
    if (answers === 0) return;
    let name = '';
    let at = offset + HEADER;
    for (;;) {
      const size = at < end ? u8[at] : 64;
      if (size > 63 || at + 1 + size > end || name.length + size > MAX_NAME) return;
      at++;
      if (size === 0) break;
      if (name !== '') name += '.';
      for (let i = 0; i < size; i++) name += String.fromCharCode(u8[at + i]);
      at += size;
    }
    at += 4;
    for (let i = 0; i < answers; i++) {
      at = afterName(u8, at, end);
      if (at < 0 || at + 10 > end) return;
      const type = u16be(u8, at);
      const size = u16be(u8, at + 8);
      const data = at + 10;
      if (data + size > end) return;
      const wanted = (type === TYPE_A && size === 4) || (type === TYPE_AAAA && size === 16);
      if (wanted && u16be(u8, at + 2) === CLASS_IN) {
        const ttl = u16be(u8, at + 4) * 65_536 + u16be(u8, at + 6);
        this.#remember(
          keyOf(u8, data, size),
          name,
          now + Math.min(MOST_SECONDS, Math.max(LEAST_SECONDS, ttl)),
        );
      }
      at = data + size;
    }
  }

  /** The name that led to the address of 4 or 16 bytes at u8[at]. */
  nameOf(u8: Uint8Array, at: number, bytes: 4 | 16, now: number): string | undefined {
    const known = this.#known.get(keyOf(u8, at, bytes));
    return known === undefined || known.until < now ? undefined : known.name;
  }

  #remember(key: string, name: string, until: number): void {
    this.#known.delete(key);
    this.#known.set(key, { name, until });
    if (this.#known.size <= this.#max) return;
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest);
      return;
    }
  }
}

function keyOf(u8: Uint8Array, at: number, bytes: number): string {
  let key = '';
  for (let i = 0; i < bytes; i += 2) key += String.fromCharCode((u8[at + i] << 8) | u8[at + i + 1]);
  return key;
}

/** Behind the name at `at`, a pointer too; -1 when it does not end. */
function afterName(u8: Uint8Array, at: number, end: number): number {
  for (let i = at; i < end; ) {
    const size = u8[i];
    if (size === 0) return i + 1;
    if (size >= 0xc0) return i + 2;
    if (size > 63) return -1;
    i += size + 1;
  }
  return -1;
}
