import { domainToASCII } from 'node:url';
import { sharedWords } from '../kernel/shared-words.ts';

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

/** What a set is made of: numbers in shared memory. */
export interface DomainTable {
  readonly count: number;
  /**
   * Open addressing, two slots in a line of the cache, so that who looks for a domain mostly finds all about it there: its hash,
   * length (0: free), place of what it has beyond SLOT_TEXT letters in `more`, and its first letters.
   */
  readonly slots: Uint32Array;
  /** The same as bytes. */
  readonly letters: Uint8Array;
  readonly more: Uint8Array;
  /** A bit for each number of labels that a domain has; the last one for as many and more. */
  readonly depths: number;
  readonly seed: number;
}

const SLOT_WORDS = 8;
const LETTERS_AT = 3 * 4;
/** Letters of a domain that are in its slot. */
const SLOT_TEXT = SLOT_WORDS * 4 - LETTERS_AT;

/** Different domains as parseDomain returns them. */
export function domainTable(domains: readonly string[]): DomainTable {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0] | 1;
  let capacity = 16;
  while (capacity < domains.length * 2) capacity *= 2;
  const size = domains.reduce((sum, { length }) => sum + Math.max(0, length - SLOT_TEXT), 0);
  const slots = sharedWords(capacity * SLOT_WORDS);
  const letters = new Uint8Array(slots.buffer, slots.byteOffset, slots.byteLength);
  const more = new Uint8Array(new SharedArrayBuffer(Math.max(1, size)));
  let used = 0;
  let depths = 0;
  for (const name of domains) {
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
    slots.set([hash, name.length, used], slot * SLOT_WORDS);
    for (let i = 0; i < name.length; i++)
      if (i < SLOT_TEXT) letters[slot * SLOT_WORDS * 4 + LETTERS_AT + i] = name.charCodeAt(i);
      else more[used++] = name.charCodeAt(i);
  }
  return { count: domains.length, slots, letters, more, depths, seed };
}

/** Of the domains that a name is below of: hash, and where in the name each begins. */
const HASHES = new Uint32Array(MAX_LABELS);
const BEGINS = new Uint32Array(MAX_LABELS);

/** Whether the name is a domain of the table, or below of one. Letters match in any case; a dot at the end does not matter. */
export function hasDomain(table: DomainTable, name: string): boolean {
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
      if (slots[word + 1] === 0) break;
      if (slots[word] === wanted && isAt(table, word, name, BEGINS[k], end)) return true;
    }
  }
  return false;
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

/** The first slot of a line. */
function home(hash: number, capacity: number): number {
  return (Math.imul(hash ^ (hash >>> 16), 0x9e3779b1) >>> 7) & (capacity - 2);
}

function isAt(
  { slots, letters, more }: DomainTable,
  word: number,
  name: string,
  from: number,
  to: number,
): boolean {
  const length = to - from;
  if (slots[word + 1] !== length) return false;
  const near = word * 4 + LETTERS_AT;
  const far = slots[word + 2] - SLOT_TEXT;
  for (let i = 0; i < length; i++)
    if ((i < SLOT_TEXT ? letters[near + i] : more[far + i]) !== lower(name.charCodeAt(from + i)))
      return false;
  return true;
}
