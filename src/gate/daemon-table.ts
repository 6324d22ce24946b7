import { type BpfMap, realtimeOffset, UpdateFlag } from '../kernel/index.ts';
import type { GateClient } from './client.ts';
import { monotonicSeconds } from './clock.ts';
import type { ShuntRow } from './control-protocol.ts';
import { shuntRow } from './control-row.ts';
import { readShuntNote, writeShuntNote } from './daemon-notes.ts';
import { BY_HAND, type EntryTable, Shunt, sided, TimeLimits, type Wanted } from './daemon-shunt.ts';
import { Entry, readEntry, reviveValue, VALUE_SIZE } from './entry.ts';
import { type FlowKey, keyText } from './flow-key.ts';
import { MADE_DIR1, madeWhy, OWNERS, State } from './layout.ts';
import type { Owners } from './owners.ts';
import { nextTurn, Portion } from './turns.ts';

const IPPROTO_TCP = 6;
/** Milliseconds between two looks at time limits. */
const TICK_MS = 200;
/** Between two sweeps of the tables: at least this, and long enough that they take no more than a twentieth of the time. */
const SWEEP_MS = 500;
const SWEEP_SHARE = 20;
/** While there is no entry: somebody may write one past the daemon. */
const IDLE_SWEEP_MS = 5000;
/** Entries that are handled between two turns of the event loop: each with a few system calls, with one for all, with none. */
const PORTION = 128;
const BATCH = 512;
const WALK = 2048;
/** Entries of one read of the tables, of which each may be new to us. */
const READ = 128;
/** Entries that share a grace period before they are deleted. */
const GRACE = 16_384;

export interface TableEvents {
  started(shunt: Shunt, row: () => ShuntRow): void;
  /** `first`: time of its first dropped packet, seconds since the epoch. */
  ended(shunt: Shunt, reason: string, row: ShuntRow, first: number | undefined): void;
  /** A step of looking after the entries went wrong; it is tried again. */
  failed(error: Error): void;
}

/**
 * The entries of a gate as its daemon keeps them: adds through the syscall program, ends what is over (by time limit, lease,
 * idle limit, or because the kernel has ended it), and takes the last count of each after a grace period. There may be
 * millions: nothing here goes through all of them in one turn of the event loop.
 */
export class ShuntTable implements EntryTable {
  #client: GateClient;
  readonly #owners: Owners;
  readonly #alone: boolean;
  readonly #events: TableEvents;
  readonly #shunts = new Map<string, Shunt>();
  readonly #limits = new TimeLimits(monotonicSeconds());
  readonly #doomed = new Map<string, Shunt>();
  readonly #counts = { 4: 0, 6: 0 };
  /** By slot: entries without an idle limit. */
  readonly #unlimited = new Uint32Array(OWNERS);
  readonly #entry = new Entry();
  #cleaning: Promise<void> | undefined;
  #sweeping: Promise<void> | undefined;
  #expiring: Promise<void> | undefined;
  #sweeps = 0;
  #serial = 0;
  #nextSweep = 0;
  #timer: NodeJS.Timeout | undefined;
  #offset = realtimeOffset();

  /** `alone`: the gate makes entries by itself. */
  constructor(client: GateClient, owners: Owners, events: TableEvents, alone = false) {
    this.#alone = alone;
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
    await this.#expiring;
    await this.#sweeping;
    await this.#cleaning;
  }

  /** The gate is off for good: ends all entries, also those that were made since the last look, and tells of them. */
  async finish(reason: string): Promise<void> {
    await this.stop();
    await this.#sweep();
    await this.endWhere(() => true, reason);
  }

  /**
   * Lets every packet pass, and resolves when no entry changes any more: to be called before the tables are exchanged.
   * Nothing may be added or ended until `resume`.
   */
  async pause(): Promise<void> {
    await this.stop();
    while (this.#doomed.size > 0) await this.#clean();
    for await (const slice of this.slices(this.#batch)) this.#askEnd(slice);
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

  get #batch(): number {
    return Math.min(this.#client.ops.size, BATCH);
  }

  /**
   * All entries that are here now, in slices, with a turn of the event loop after each: of those that go meanwhile some are
   * in it (`find` tells), of those that come none.
   */
  async *slices(size: number): AsyncGenerator<Shunt[]> {
    const last = this.#serial;
    let slice: Shunt[] = [];
    for (const shunt of this.#shunts.values()) {
      // They are in the order of their coming.
      if (shunt.serial > last) break;
      slice.push(shunt);
      if (slice.length < size) continue;
      yield slice;
      slice = [];
      await nextTurn();
    }
    yield slice;
  }

  /** Whether entries of this owner have no idle limit: only its lease lets go of them. */
  hasUnlimited(slot: number): boolean {
    return (this.#unlimited[slot] ?? 0) > 0;
  }

  /** The name of its owner; empty for what was made by hand. */
  ownerOf({ slot }: Shunt): string {
    return this.#owners.nameOf(slot);
  }

  current(shunt: Shunt): boolean {
    return this.#shunts.get(shunt.text) === shunt;
  }

  find(key: Uint8Array): Shunt | undefined {
    return this.#shunts.get(keyText(key));
  }

  look({ family, bytes, tcp }: FlowKey): Shunt | undefined {
    const known = this.find(bytes);
    if (known !== undefined || !this.#alone) return known;
    if (!this.#client.read(family, bytes, tcp, this.#entry)) return undefined;
    return this.#adopt(family, bytes, tcp, this.#sweeps, this.#entry.owner);
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
        const { key, slot, after } = wanted[i];
        const later = after === undefined ? undefined : { after, synced: [false, false] as const };
        ops.push('flip', key.family, key.bytes, slot, 0, 0, [0, 0], [0, 0], undefined, later);
      }
      ops.run();
      armed.forEach((i, row) => (results[i] = this.#added(wanted[i], ops.result(row), now)));
    }
    return results;
  }

  /** A FIN, RST or SYN between arming and the flip has ended the entry: it is added, and taken away by the next sweep. */
  #added(w: Wanted, _flipped: number, now: number): number {
    const { family, bytes, tcp } = w.key;
    const facts = {
      family,
      tcp,
      slot: w.slot,
      trigger: w.trigger,
      since: now + this.#offset,
      expires: w.ttl === undefined ? undefined : now + w.ttl,
      start: tcp && w.seq !== undefined ? sided(w, w.seq) : undefined,
      unlimited: w.idle === undefined,
    };
    const shunt = new Shunt(bytes, facts, ++this.#serial, this.#sweeps);
    this.#enter(shunt);
    writeShuntNote(this.#client.notes, family, bytes, shunt);
    this.#events.started(shunt, () => this.row(shunt) ?? this.#blank(shunt));
    return 0;
  }

  #enter(shunt: Shunt): void {
    const before = this.#shunts.get(shunt.text);
    // Somebody else has deleted it from the tables.
    if (before !== undefined) this.#gone(before, 'gone', undefined);
    this.#shunts.set(shunt.text, shunt);
    this.#counts[shunt.family]++;
    if (shunt.unlimited) this.#unlimited[shunt.slot]++;
    this.#nextSweep = Math.min(this.#nextSweep, performance.now() + SWEEP_MS);
    this.#limits.add(shunt);
    const owner = this.#owners.at(shunt.slot);
    if (owner !== undefined) owner.entries++;
  }

  #leave(shunt: Shunt): void {
    this.#client.notes.remove(shunt.family, shunt.key);
    this.#shunts.delete(shunt.text);
    this.#doomed.delete(shunt.text);
    this.#counts[shunt.family]--;
    if (shunt.unlimited) this.#unlimited[shunt.slot]--;
    this.#limits.remove(shunt);
    const owner = this.#owners.at(shunt.slot);
    if (owner === undefined) return;
    owner.entries--;
    if (owner.leaving && owner.entries === 0) this.#owners.forget(owner);
  }

  #gone(shunt: Shunt, reason: string, row: ShuntRow | undefined): void {
    this.#leave(shunt);
    // As read for the row.
    const first = row !== undefined && this.#entry.first > 0 ? this.#entry.first + this.#offset : undefined;
    this.#events.ended(shunt, reason, row ?? this.#blank(shunt), first);
  }

  /** Ends entries, and resolves to their last counts once no packet can change them any more. */
  async end(shunts: readonly Shunt[], reason: string): Promise<void> {
    await this.#doom(shunts, reason);
    await this.#clean();
  }

  /** Ends those that are meant; how many there were. */
  async endWhere(meant: (shunt: Shunt) => boolean, reason: string): Promise<number> {
    const found: Shunt[] = [];
    for await (const slice of this.slices(WALK))
      for (const shunt of slice) if (shunt.reason === undefined && meant(shunt)) found.push(shunt);
    await this.end(found, reason);
    return found.length;
  }

  /** Asks for the end of entries; what has ended or gone meanwhile is let be. */
  async #doom(shunts: readonly Shunt[], reason: string): Promise<void> {
    const size = this.#batch;
    for (let from = 0; from < shunts.length; from += size) {
      if (from > 0) await nextTurn();
      const here = shunts
        .slice(from, from + size)
        .filter((shunt) => shunt.reason === undefined && this.#shunts.get(shunt.text) === shunt);
      this.#askEnd(here);
      for (const shunt of here) {
        shunt.reason = reason;
        this.#doomed.set(shunt.text, shunt);
      }
    }
  }

  #askEnd(shunts: readonly Shunt[]): void {
    const { ops } = this.#client;
    ops.clear();
    for (const { family, key, slot } of shunts) ops.push('end', family, key, slot, 0, 0, [0, 0], [0, 0]);
    ops.run();
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
    const { family, key, trigger, since, expires, start } = shunt;
    const owner = this.ownerOf(shunt);
    return shuntRow(family, key, entry, { owner, trigger, since, expires, start }, this.#offset);
  }

  #tick(): void {
    const failed = (error: Error): void => this.#events.failed(error);
    this.#expiring ??= this.#expire()
      .catch(failed)
      .finally(() => (this.#expiring = undefined));
    this.#clean().catch(failed);
    if (this.#sweeping === undefined && performance.now() >= this.#nextSweep) this.#sweep().catch(failed);
  }

  async #expire(): Promise<void> {
    for (;;) {
      const over = this.#limits.over(monotonicSeconds(), this.#batch);
      if (over.length === 0) return;
      await this.#doom(over, 'limit');
      await nextTurn();
    }
  }

  /** Reads what is ending a last time after a grace period, deletes it, and tells of it. */
  #clean(): Promise<void> {
    if (this.#doomed.size > 0) this.#cleaning ??= this.#cleanAll();
    return this.#cleaning ?? Promise.resolve();
  }

  async #cleanAll(): Promise<void> {
    try {
      while (this.#doomed.size > 0) {
        const due: Shunt[] = [];
        for (const shunt of this.#doomed.values()) if (due.push(shunt) === GRACE) break;
        await this.#client.grace();
        const portion = new Portion(PORTION);
        for (const shunt of due) {
          if (this.#shunts.get(shunt.text) !== shunt) continue;
          const row = this.row(shunt);
          if (row !== undefined) this.#client.remove(shunt.family, shunt.key);
          this.#gone(shunt, shunt.reason ?? 'gone', row);
          if (portion.full()) await nextTurn();
        }
      }
    } finally {
      this.#cleaning = undefined;
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
    const over = new Map<string, Shunt[]>();
    for (const family of [4, 6] as const) {
      const size = family === 4 ? 16 : 48;
      const each = (keys: Uint8Array, offset: number, values: DataView, at: number): void => {
        const key = keys.subarray(offset, offset + size);
        const tcp = key[family === 4 ? 12 : 36] === IPPROTO_TCP;
        readEntry(values, at, family, tcp, seen);
        const shunt = this.find(key) ?? this.#adopt(family, key, tcp, number, seen.owner);
        if (shunt === undefined) return;
        shunt.seen = number;
        const reason = shunt.reason === undefined ? this.#over(shunt, seen) : undefined;
        if (reason === undefined) return;
        const others = over.get(reason);
        if (others === undefined) over.set(reason, [shunt]);
        else others.push(shunt);
      };
      await this.#client.sweep(family, each, READ);
    }
    // Ended by the kernel already: asking for it once more changes nothing.
    for (const [reason, shunts] of over) await this.#doom(shunts, reason);
    await this.#doom(await this.#unseen(number), 'gone');
    for (const owner of this.#owners.all()) {
      if (owner.leaving && owner.entries === 0) this.#owners.forget(owner);
    }
    this.#nextSweep =
      performance.now() +
      Math.max(
        this.#shunts.size === 0 && !this.#alone ? IDLE_SWEEP_MS : SWEEP_MS,
        (performance.now() - began) * SWEEP_SHARE,
      );
  }

  /** Entries that two sweeps have not seen: somebody else has deleted them. */
  async #unseen(number: number): Promise<Shunt[]> {
    const missed: Shunt[] = [];
    for await (const slice of this.slices(WALK))
      for (const shunt of slice)
        if (shunt.seen < number - 1 && shunt.reason === undefined) missed.push(shunt);
    const gone: Shunt[] = [];
    const portion = new Portion(PORTION);
    for (const shunt of missed) {
      if (this.row(shunt) === undefined) gone.push(shunt);
      if (portion.full()) await nextTurn();
    }
    return gone;
  }

  /** An entry that is in the tables without our doing: from before a restart. */
  #adopt(family: 4 | 6, key: Uint8Array, tcp: boolean, number: number, owner: number): Shunt | undefined {
    if (!this.#owners.isClient(owner)) return undefined;
    // What a batch saw may have been deleted since.
    const entry = this.#entry;
    if (!this.#client.read(family, key, tcp, entry)) return undefined;
    const note = readShuntNote(this.#client.notes, family, key);
    const { made } = entry;
    const facts = {
      family,
      tcp,
      slot: entry.owner,
      trigger: note?.trigger ?? (made > 0 ? madeWhy(entry.cookie) : 'recovered'),
      since: note?.since ?? (made > 0 ? made + this.#offset : undefined),
      orig: made > 0 ? ((entry.cookie & MADE_DIR1) !== 0 ? (1 as const) : (0 as const)) : undefined,
      expires: entry.owner === BY_HAND && entry.cookie > 0 ? entry.cookie : undefined,
      start: note?.start,
      unlimited: entry.idleMs === 0,
    };
    const shunt = new Shunt(key, facts, ++this.#serial, number);
    this.#enter(shunt);
    // The gate's own: nobody has told of it yet. The note says so, should another daemon come.
    if (made > 0 && note === undefined) {
      writeShuntNote(this.#client.notes, family, key, shunt);
      this.#events.started(shunt, () => this.row(shunt) ?? this.#blank(shunt));
    }
    return shunt;
  }

  /** Why an entry is over; undefined while it is not. */
  #over(shunt: Shunt, entry: Entry): string | undefined {
    const now = monotonicSeconds();
    const [a, b] = entry.dirs;
    if (a.state === State.ending || b.state === State.ending)
      return (a.state === State.ending ? a.reason : b.reason) || 'asked';
    if (shunt.slot !== BY_HAND && this.#owners.lapsed(shunt.slot)) return 'lease';
    if (shunt.expires !== undefined && shunt.expires < now) return 'limit';
    if (entry.idleMs > 0 && Math.max(a.last, b.last) + entry.idleMs / 1000 < now) return 'idle';
    return undefined;
  }
}
