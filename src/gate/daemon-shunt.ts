import type { ShuntRow } from './control-protocol.ts';
import { type FlowKey, keyText } from './flow-key.ts';
import type { Threshold } from './ops.ts';

/** The slot of nobody: an entry by hand. */
export const BY_HAND = 0;

/** A flow to be added. */
export interface Wanted {
  key: FlowKey;
  slot: number;
  trigger: string;
  /** Seconds from now. */
  ttl: number | undefined;
  /** Seconds; undefined: no idle limit. */
  idle: number | undefined;
  /** TCP: highest sequence ends and acknowledgements of a and b. */
  seq: readonly [number, number] | undefined;
  ack: readonly [number, number] | undefined;
  /** What it may pass before the gate shunts it by itself; undefined: it is shunted at once. */
  after?: Threshold | undefined;
}

/** Numbers of a and b in the order of the key. */
export function sided({ key }: Wanted, of: readonly [number, number] | undefined): [number, number] {
  const [a, b] = of ?? [0, 0];
  return key.sideOfA === 0 ? [a, b] : [b, a];
}

/** What is known of an entry when the daemon begins to keep it. */
export interface ShuntFacts {
  family: 4 | 6;
  tcp: boolean;
  /** Place of its owner in the leases; 0: made by hand. */
  slot: number;
  trigger: string;
  /** Seconds since the epoch; undefined for what was found after a restart. */
  since: number | undefined;
  /** CLOCK_MONOTONIC seconds; undefined: bound by its owner's lease or idle limit. */
  expires: number | undefined;
  /** TCP: sequence ends when it was added, low side first. */
  start: readonly [number, number] | undefined;
  /** It has no idle limit. */
  unlimited: boolean;
  /** Of what the gate has made itself: side of the originator. */
  orig?: 0 | 1 | undefined;
}

/**
 * What the daemon knows of an entry in the tables. There may be millions: the key is kept as text alone, which takes a fifth
 * of what an array with a buffer of its own does.
 */
export class Shunt implements ShuntFacts {
  /** The key, as keyText writes it. */
  readonly text: string;
  readonly family: 4 | 6;
  readonly tcp: boolean;
  readonly slot: number;
  readonly trigger: string;
  readonly since: number | undefined;
  readonly expires: number | undefined;
  readonly start: readonly [number, number] | undefined;
  readonly unlimited: boolean;
  readonly orig: 0 | 1 | undefined;
  /** The how manieth entry of this daemon it is. */
  readonly serial: number;
  /** Why it has ended, once somebody has asked for that. */
  reason: string | undefined = undefined;
  /** The last sweep that saw it. */
  seen: number;

  constructor(key: Uint8Array, facts: ShuntFacts, serial: number, seen: number) {
    this.text = keyText(key);
    this.family = facts.family;
    this.tcp = facts.tcp;
    this.slot = facts.slot;
    this.trigger = facts.trigger;
    this.since = facts.since;
    this.expires = facts.expires;
    this.start = facts.start;
    this.unlimited = facts.unlimited;
    this.orig = facts.orig;
    this.serial = serial;
    this.seen = seen;
  }

  get key(): Uint8Array {
    return Buffer.from(this.text, 'latin1');
  }
}

/** The entries of a gate, as those who work on requests see them. */
export interface EntryTable {
  /** For each 0 or a negative errno. */
  add(wanted: readonly Wanted[]): number[] | Promise<number[]>;
  find(key: Uint8Array): Shunt | undefined;
  /** The same; what the gate has made itself since the last sweep too. */
  look(key: FlowKey): Shunt | undefined;
  /** It has not been replaced by another of its key. */
  current(shunt: Shunt): boolean;
  /** Undefined: it has gone. */
  row(shunt: Shunt): ShuntRow | undefined;
  /** Resolves when their last counts have been told of. */
  end(shunts: readonly Shunt[], reason: string): Promise<void>;
  /** How many there were. */
  endWhere(meant: (shunt: Shunt) => boolean, reason: string): Promise<number>;
  slices(size: number): AsyncGenerator<Shunt[]>;
  /** Empty: made by hand. */
  ownerOf(shunt: Shunt): string;
  /** Entries without an idle limit of this owner. */
  hasUnlimited(slot: number): boolean;
}

/** Parts of a second in which time limits are told apart. */
const PER_SECOND = 5;

/** Entries with a time limit, by when it is over: whoever looks for those that are does not look at the others. */
export class TimeLimits {
  readonly #due = new Map<number, Set<Shunt>>();
  /** Over before they came, as after a restart. */
  readonly #late = new Set<Shunt>();
  /** The first part of a second that has not been looked at. */
  #next: number;

  /** Times are CLOCK_MONOTONIC seconds. */
  constructor(now: number) {
    this.#next = Math.floor(now * PER_SECOND);
  }

  #at(expires: number): number {
    return Math.ceil(expires * PER_SECOND);
  }

  add(shunt: Shunt): void {
    if (shunt.expires === undefined) return;
    const at = this.#at(shunt.expires);
    const set = this.#due.get(at);
    if (at < this.#next) this.#late.add(shunt);
    else if (set === undefined) this.#due.set(at, new Set([shunt]));
    else set.add(shunt);
  }

  remove(shunt: Shunt): void {
    if (shunt.expires === undefined || this.#late.delete(shunt)) return;
    const at = this.#at(shunt.expires);
    const set = this.#due.get(at);
    if (set?.delete(shunt) === true && set.size === 0) this.#due.delete(at);
  }

  /** Those whose limit is over, each once; no more than `most` at a time. */
  over(now: number, most: number): Shunt[] {
    const found: Shunt[] = [];
    const take = (set: Iterable<Shunt>): void => {
      for (const shunt of set) {
        if (found.length === most) return;
        found.push(shunt);
        this.remove(shunt);
      }
    };
    take(this.#late);
    for (const last = Math.floor(now * PER_SECOND); this.#next <= last; this.#next++) {
      take(this.#due.get(this.#next) ?? []);
      // There may be more at this time.
      if (found.length === most) break;
    }
    return found;
  }
}
