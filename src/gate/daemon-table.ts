import { type BpfMap, realtimeOffset, UpdateFlag } from '../kernel/index.ts';
import type { GateClient } from './client.ts';
import { monotonicSeconds } from './clock.ts';
import type { ShuntRow } from './control-protocol.ts';
import { shuntRow } from './control-row.ts';
import { readShuntNote, writeShuntNote } from './daemon-notes.ts';
import { Entry, readEntry, reviveValue, VALUE_SIZE } from './entry.ts';
import { type FlowKey, keyText } from './flow-key.ts';
import { State } from './layout.ts';
import type { Owners } from './owners.ts';

const IPPROTO_TCP = 6;
/** Milliseconds between two looks at time limits. */
const TICK_MS = 200;
/** Between two sweeps of the tables: at least this, and long enough that they take no more than a twentieth of the time. */
const SWEEP_MS = 500;
const SWEEP_SHARE = 20;
/** While there is no entry: somebody may write one past the daemon. */
const IDLE_SWEEP_MS = 5000;
/** Nobody's: an entry by hand. */
const BY_HAND = 0;

/** What the daemon knows of an entry in the tables. */
export interface Shunt {
  family: 4 | 6;
  key: Uint8Array;
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
  /** Why it has ended, once somebody has asked for that. */
  reason: string | undefined;
  /** The last sweep that saw it. */
  seen: number;
}

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
}

export interface TableEvents {
  started(shunt: Shunt, row: () => ShuntRow): void;
  ended(shunt: Shunt, reason: string, row: ShuntRow): void;
  /** A step of looking after the entries went wrong; it is tried again. */
  failed(error: Error): void;
}

/**
 * The entries of a gate as its daemon keeps them: adds through the syscall program, ends what is over (by time limit, lease,
 * idle limit, or because the kernel has ended it), and takes the last count of each after a grace period.
 */
export class ShuntTable {
  #client: GateClient;
  readonly #owners: Owners;
  readonly #events: TableEvents;
  readonly #shunts = new Map<string, Shunt>();
  readonly #timed = new Set<Shunt>();
  readonly #doomed = new Map<string, Shunt>();
  readonly #counts = { 4: 0, 6: 0 };
  readonly #entry = new Entry();
  #cleaning: Promise<void> | undefined;
  #sweeping: Promise<void> | undefined;
  #sweeps = 0;
  #nextSweep = 0;
  #timer: NodeJS.Timeout | undefined;
  #offset = realtimeOffset();

  constructor(client: GateClient, owners: Owners, events: TableEvents) {
    this.#client = client;
    this.#owners = owners;
    this.#events = events;
  }

  /** Takes in what an earlier daemon left in the tables, and begins to look after all entries. */
  async start(): Promise<void> {
    await this.#sweep();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** Stops looking after the entries; they are left as they are. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#sweeping;
    await this.#cleaning;
  }

  /**
   * Lets every packet pass, and resolves when no entry changes any more: to be called before the tables are exchanged.
   * Nothing may be added or ended until `resume`.
   */
  async pause(): Promise<void> {
    await this.stop();
    while (this.#doomed.size > 0) await this.#clean();
    const { ops } = this.#client;
    const all = this.all();
    for (let from = 0; from < all.length; from += ops.size) {
      ops.clear();
      for (const { family, key, slot } of all.slice(from, from + ops.size))
        ops.push('end', family, key, slot, 0, 0, [0, 0], [0, 0]);
      ops.run();
    }
    await this.#client.grace();
  }

  /** Copies the entries as they stand after `pause`; those that only `pause` has ended count and drop again in the copy. */
  async copy(tables: Readonly<Record<4 | 6, BpfMap>>): Promise<void> {
    for (const family of [4, 6] as const) {
      const size = VALUE_SIZE[family];
      await this.#client.sweep(family, (keys, offset, values, at) => {
        reviveValue(values, at, family);
        const key = keys.subarray(offset, offset + (family === 4 ? 16 : 48));
        tables[family].set(key, new Uint8Array(values.buffer, at, size), UpdateFlag.noExist);
      });
    }
  }

  /** Goes on, with the client of the tables that are the gate's now. */
  resume(client: GateClient): void {
    this.#client = client;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  get size(): number {
    return this.#shunts.size;
  }

  entries(family: 4 | 6): number {
    return this.#counts[family];
  }

  all(): Shunt[] {
    return [...this.#shunts.values()];
  }

  /** Whether entries of this owner have no idle limit: only its lease lets go of them. */
  hasUnlimited(slot: number): boolean {
    const entry = this.#entry;
    return this.all().some(
      ({ family, key, tcp, slot: owner, reason }) =>
        owner === slot &&
        reason === undefined &&
        this.#client.read(family, key, tcp, entry) &&
        entry.idleMs === 0,
    );
  }

  find(key: Uint8Array): Shunt | undefined {
    return this.#shunts.get(keyText(key));
  }

  /** Adds entries that count and drop from now on; for each 0 or a negative errno. */
  add(wanted: readonly Wanted[]): number[] {
    const { ops } = this.#client;
    const now = monotonicSeconds();
    this.#offset = realtimeOffset();
    const results = wanted.map(() => 0);
    for (let from = 0; from < wanted.length; from += ops.size) {
      const part = wanted.slice(from, from + ops.size);
      ops.clear();
      for (const w of part) {
        const deadline = w.ttl === undefined ? 0 : Math.ceil(now + w.ttl);
        // Without an idle limit of its own an entry by hand has its time limit as one.
        const idle = w.idle ?? (w.slot === BY_HAND ? w.ttl : undefined) ?? 0;
        const idleMs = Math.max(idle === 0 ? 0 : 1, Math.round(idle * 1000));
        const { family, bytes } = w.key;
        ops.push('arm', family, bytes, w.slot, idleMs, deadline, sided(w, w.seq), sided(w, w.ack));
      }
      ops.run();
      part.forEach((_, row) => (results[from + row] = ops.result(row)));
      // Only what is ours now: an entry that was there before may be another's, in the middle of its hand-off.
      const armed = part.map((_, i) => from + i).filter((i) => results[i] === 0);
      ops.clear();
      for (const i of armed) {
        const { key, slot } = wanted[i];
        ops.push('flip', key.family, key.bytes, slot, 0, 0, [0, 0], [0, 0]);
      }
      ops.run();
      armed.forEach((i, row) => (results[i] = this.#added(wanted[i], ops.result(row), now)));
    }
    return results;
  }

  /** A FIN, RST or SYN between arming and the flip has ended the entry: it is added, and taken away by the next sweep. */
  #added(w: Wanted, _flipped: number, now: number): number {
    const { family, bytes, tcp } = w.key;
    const shunt: Shunt = {
      family,
      key: bytes,
      tcp,
      slot: w.slot,
      trigger: w.trigger,
      since: now + this.#offset,
      expires: w.ttl === undefined ? undefined : now + w.ttl,
      start: tcp && w.seq !== undefined ? sided(w, w.seq) : undefined,
      reason: undefined,
      seen: this.#sweeps,
    };
    this.#enter(shunt);
    writeShuntNote(this.#client.notes, family, bytes, shunt);
    this.#events.started(shunt, () => this.row(shunt) ?? this.#blank(shunt));
    return 0;
  }

  #enter(shunt: Shunt): void {
    this.#shunts.set(keyText(shunt.key), shunt);
    this.#counts[shunt.family]++;
    this.#nextSweep = Math.min(this.#nextSweep, performance.now() + SWEEP_MS);
    if (shunt.expires !== undefined) this.#timed.add(shunt);
    const owner = this.#owners.at(shunt.slot);
    if (owner !== undefined) owner.entries++;
  }

  #leave(shunt: Shunt): void {
    this.#client.notes.remove(shunt.family, shunt.key);
    this.#shunts.delete(keyText(shunt.key));
    this.#counts[shunt.family]--;
    this.#timed.delete(shunt);
    const owner = this.#owners.at(shunt.slot);
    if (owner === undefined) return;
    owner.entries--;
    if (owner.leaving && owner.entries === 0) this.#owners.forget(owner);
  }

  /** Ends entries, and resolves to their last counts once no packet can change them any more. */
  async end(shunts: readonly Shunt[], reason: string): Promise<void> {
    this.#endNow(shunts, reason);
    await this.#clean();
  }

  #endNow(shunts: readonly Shunt[], reason: string): void {
    const { ops } = this.#client;
    for (let from = 0; from < shunts.length; from += ops.size) {
      const part = shunts.slice(from, from + ops.size);
      ops.clear();
      for (const { family, key, slot } of part) ops.push('end', family, key, slot, 0, 0, [0, 0], [0, 0]);
      ops.run();
    }
    for (const shunt of shunts) {
      shunt.reason ??= reason;
      this.#doomed.set(keyText(shunt.key), shunt);
    }
  }

  /** The entry as it is now; undefined when it has gone. */
  row(shunt: Shunt): ShuntRow | undefined {
    if (!this.#client.read(shunt.family, shunt.key, shunt.tcp, this.#entry)) return undefined;
    return this.#describe(shunt, this.#entry);
  }

  #blank(shunt: Shunt): ShuntRow {
    return this.#describe(shunt, new Entry());
  }

  #describe(shunt: Shunt, entry: Entry): ShuntRow {
    const owner = shunt.slot === BY_HAND ? '' : (this.#owners.at(shunt.slot)?.name ?? `${shunt.slot}`);
    return shuntRow(shunt.family, shunt.key, entry, { ...shunt, owner }, this.#offset);
  }

  #tick(): void {
    const now = monotonicSeconds();
    const over = [...this.#timed].filter(
      (shunt) => (shunt.expires ?? 0) <= now && shunt.reason === undefined,
    );
    if (over.length > 0) this.#endNow(over, 'limit');
    const failed = (error: Error): void => this.#events.failed(error);
    if (this.#doomed.size > 0) this.#clean().catch(failed);
    if (this.#sweeping === undefined && performance.now() >= this.#nextSweep) this.#sweep().catch(failed);
  }

  /** Reads what is ending a last time after a grace period, deletes it, and tells of it. */
  #clean(): Promise<void> {
    this.#cleaning ??= this.#cleanAll().finally(() => (this.#cleaning = undefined));
    return this.#cleaning;
  }

  async #cleanAll(): Promise<void> {
    while (this.#doomed.size > 0) {
      const due = [...this.#doomed.values()];
      this.#doomed.clear();
      await this.#client.grace();
      for (const shunt of due) {
        const row = this.row(shunt);
        const reason = shunt.reason ?? 'gone';
        if (row !== undefined) this.#client.remove(shunt.family, shunt.key);
        this.#leave(shunt);
        this.#events.ended(shunt, reason, row ?? this.#blank(shunt));
      }
    }
  }

  #sweep(): Promise<void> {
    this.#sweeping ??= this.#sweepAll().finally(() => (this.#sweeping = undefined));
    return this.#sweeping;
  }

  async #sweepAll(): Promise<void> {
    const began = performance.now();
    const number = ++this.#sweeps;
    this.#offset = realtimeOffset();
    const seen = new Entry();
    const over: { shunt: Shunt; reason: string }[] = [];
    for (const family of [4, 6] as const) {
      await this.#client.sweep(family, (keys, offset, values, at) => {
        const key = keys.slice(offset, offset + (family === 4 ? 16 : 48));
        const tcp = key[family === 4 ? 12 : 36] === IPPROTO_TCP;
        readEntry(values, at, family, tcp, seen);
        const shunt = this.find(key) ?? this.#adopt(family, key, tcp, number);
        if (shunt === undefined) return;
        shunt.seen = number;
        const reason = shunt.reason === undefined ? this.#over(shunt, seen) : undefined;
        if (reason !== undefined) over.push({ shunt, reason });
      });
    }
    for (const { shunt, reason } of over) {
      // Ended by the kernel already: asking for it once more changes nothing.
      if (shunt.reason === undefined) this.#endNow([shunt], reason);
    }
    for (const shunt of this.#shunts.values()) {
      if (shunt.seen >= number - 1 || shunt.reason !== undefined) continue;
      // Twice unseen: somebody else has deleted it.
      if (this.row(shunt) === undefined) this.#endNow([shunt], 'gone');
    }
    for (const owner of this.#owners.all()) {
      if (owner.leaving && owner.entries === 0) this.#owners.forget(owner);
    }
    this.#nextSweep =
      performance.now() +
      Math.max(this.#shunts.size === 0 ? IDLE_SWEEP_MS : SWEEP_MS, (performance.now() - began) * SWEEP_SHARE);
  }

  /** An entry that is in the tables without our doing: from before a restart. */
  #adopt(family: 4 | 6, key: Uint8Array, tcp: boolean, number: number): Shunt | undefined {
    // What a batch saw may have been deleted since.
    const entry = this.#entry;
    if (!this.#client.read(family, key, tcp, entry)) return undefined;
    const note = readShuntNote(this.#client.notes, family, key);
    const shunt: Shunt = {
      family,
      key,
      tcp,
      slot: entry.owner,
      trigger: note?.trigger ?? 'recovered',
      since: note?.since,
      expires: entry.owner === BY_HAND && entry.cookie > 0 ? entry.cookie : undefined,
      start: note?.start,
      reason: undefined,
      seen: number,
    };
    this.#enter(shunt);
    return shunt;
  }

  /** Why an entry is over; undefined while it is not. */
  #over(shunt: Shunt, entry: Entry): string | undefined {
    const now = monotonicSeconds();
    const [a, b] = entry.dirs;
    if (a.state === State.ending || b.state === State.ending)
      return (a.state === State.ending ? a.reason : b.reason) || 'asked';
    if (shunt.slot !== BY_HAND && this.#owners.lapsed(shunt.slot)) return 'lease';
    if (entry.idleMs > 0 && Math.max(a.last, b.last) + entry.idleMs / 1000 < now) return 'idle';
    return undefined;
  }
}

/** Numbers of a and b in the order of the key. */
function sided({ key }: Wanted, of: readonly [number, number] | undefined): [number, number] {
  const [a, b] = of ?? [0, 0];
  return key.sideOfA === 0 ? [a, b] : [b, a];
}
