import { domainToASCII } from 'node:url';

/** Domains that a set may hold. */
export const MAX_DOMAINS = 4_000_000;
/** Labels of a name that is looked up; more of them are no name. */
const MAX_LABELS = 128;
const MAX_NAME = 255;

/** A domain in the form that sets hold: lower case, ASCII, no dots at the ends; undefined for what is none. */
export function parseDomain(text: string): string | undefined {
  const bare = text.replace(/^\*?\./, '').replace(/\.$/, '');
  const name = /^[\x21-\x7e]*$/.test(bare) ? bare.toLowerCase() : domainToASCII(bare);
  return name.length <= MAX_NAME && /^(?:[\w-]{1,63}\.)*[\w-]{1,63}$/.test(name) ? name : undefined;
}

/** What a set is made of: numbers in shared memory. Each domain has a value; several values make a domain stand several times. */
export interface DomainTable {
  /** Open addressing, a power of two of slots: hash of the domain, place in `text` + 1 (0: free), value, nothing. */
  readonly slots: Uint32Array;
  /** Domains, each behind its length. */
  readonly text: Uint8Array;
  /** A bit for each number of labels that a domain has; the last one for as many and more. */
  readonly depths: number;
  readonly seed: number;
}

const SLOT_WORDS = 4;

/** Domains as parseDomain returns them, with the value of each. */
export function domainTable(domains: readonly (readonly [name: string, value: number])[]): DomainTable {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0] | 1;
  let capacity = 16;
  while (capacity < domains.length * 2) capacity *= 2;
  const size = domains.reduce((sum, [name]) => sum + name.length + 1, 0);
  const slots = new Uint32Array(new SharedArrayBuffer(capacity * SLOT_WORDS * 4));
  const text = new Uint8Array(new SharedArrayBuffer(Math.max(1, size)));
  let at = 0;
  let depths = 0;
  for (const [name, value] of domains) {
    let hash = seed;
    let labels = 1;
    for (let i = name.length - 1; i >= 0; i--) {
      const code = name.charCodeAt(i);
      hash = step(hash, code);
      if (code === DOT) labels++;
    }
    depths |= depthBit(labels);
    let slot = home(hash, capacity);
    while (slots[slot * SLOT_WORDS + 1] !== 0) slot = (slot + 1) & (capacity - 1);
    slots.set([hash, at + 1, value], slot * SLOT_WORDS);
    text[at++] = name.length;
    for (let i = 0; i < name.length; i++) text[at++] = name.charCodeAt(i);
  }
  return { slots, text, depths, seed };
}

/** Of the domains that a name is below of: hash, and where in the name each begins. */
const HASHES = new Uint32Array(MAX_LABELS);
const BEGINS = new Uint32Array(MAX_LABELS);

/**
 * Calls `found` with the value of each domain that `name` is, or is below of, the shortest domain first, until it answers
 * true; whether it did. Letters match in any case; a dot at the end does not matter.
 */
export function findDomains(table: DomainTable, name: string, found: (value: number) => boolean): boolean {
  const { slots, depths, seed } = table;
  const mask = slots.length / SLOT_WORDS - 1;
  let end = name.length;
  if (end > 0 && name.charCodeAt(end - 1) === DOT) end--;
  let hash = seed;
  let labels = 0;
  let count = 0;
  // What is read here does not wait for each other: a name takes hardly longer than one slot.
  let any = 0;
  for (let i = end - 1; i >= 0 && labels < MAX_LABELS; i--) {
    hash = step(hash, lower(name.charCodeAt(i)));
    if (i > 0 && name.charCodeAt(i - 1) !== DOT) continue;
    if ((depths & depthBit(++labels)) === 0) continue;
    any |= slots[home(hash, mask + 1) * SLOT_WORDS + 1];
    HASHES[count] = hash;
    BEGINS[count++] = i;
  }
  if (any === 0) return false;
  for (let k = 0; k < count; k++) {
    const wanted = HASHES[k];
    for (let slot = home(wanted, mask + 1); ; slot = (slot + 1) & mask) {
      const word = slot * SLOT_WORDS;
      const place = slots[word + 1];
      if (place === 0) break;
      if (slots[word] === wanted && isAt(table, place - 1, name, BEGINS[k], end) && found(slots[word + 2]))
        return true;
    }
  }
  return false;
}

const always = () => true;

/** Whether the name is a domain of the table, or below of one. */
export function hasDomain(table: DomainTable, name: string): boolean {
  return findDomains(table, name, always);
}

const DOT = 0x2e;

/** The bit of `depths` for so many labels. */
function depthBit(labels: number): number {
  return 1 << Math.min(31, labels);
}

function lower(code: number): number {
  return code >= 0x41 && code <= 0x5a ? code | 0x20 : code;
}

function step(hash: number, code: number): number {
  return Math.imul(hash ^ code, 0x01000193) ^ (hash >>> 15);
}

function home(hash: number, capacity: number): number {
  return (Math.imul(hash ^ (hash >>> 16), 0x9e3779b1) >>> 8) & (capacity - 1);
}

function isAt({ text }: DomainTable, at: number, name: string, from: number, to: number): boolean {
  if (text[at] !== to - from) return false;
  for (let i = from; i < to; i++) if (text[at + 1 + i - from] !== lower(name.charCodeAt(i))) return false;
  return true;
}
