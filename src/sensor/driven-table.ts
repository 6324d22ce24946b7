import type { GateClient } from '../gate/client.ts';
import { monotonicSeconds } from '../gate/clock.ts';
import type { ShuntRow } from '../gate/control-protocol.ts';
import { shuntRow } from '../gate/control-row.ts';
import { BY_HAND, type EntryTable, Shunt, TimeLimits, type Wanted } from '../gate/daemon-shunt.ts';
import { ShuntTable, type TableEvents } from '../gate/daemon-table.ts';
import { Entry, readEntry } from '../gate/entry.ts';
import { type FlowKey, keyText } from '../gate/flow-key.ts';
import { State } from '../gate/layout.ts';
import type { Owners } from '../gate/owners.ts';
import { nextTurn } from '../gate/turns.ts';
import { realtimeOffset } from '../kernel/index.ts';
import { type FlowRef, Order, type Orders, type ToldShunt } from './client-orders.ts';

const IPPROTO_TCP = 6;
const PROTOCOL_AT = { 4: 12, 6: 36 } as const;
const KEY_SIZE = { 4: 16, 6: 48 } as const;
const TICK_MS = 200;
/** So long whoever ends a shunt waits for its last counts. */
const END_MS = 3000;
/** Shunts that one look at the time limits ends. */
const PORTION = 512;

/** What answers of workers mean for who adds, as errno. */
const ERRNO: Readonly<Record<number, number>> = {
  [Order.exists]: -17,
  [Order.notNow]: -11,
  [Order.held]: -16,
  [Order.excepted]: -13,
};

export interface DrivenOptions {
  client: GateClient;
  owners: Owners;
  events: TableEvents;
  /** The answers of each worker. */
  order(orders: Orders): Promise<number[][]>;
  /** Why a worker has shunted a flow. */
  triggerOf(family: 4 | 6, key: Uint8Array): string;
}

/**
 * The entries of a gate that the sensor drives. What a client wants of a connection that a worker knows is done by that worker,
 * so that the connection's record stays whole; flows that no worker knows have entries of their own, as with a daemon. Those
 * of policies are read from the tables when somebody asks.
 */
export class DrivenTable implements EntryTable {
  readonly #options: DrivenOptions;
  readonly #inner: ShuntTable;
  /** Carried out by workers, on behalf of clients. */
  readonly #driven = new Map<string, Shunt>();
  /** The same, those that have ended too. */
  readonly #byWorkers = new WeakSet<Shunt>();
  readonly #limits = new TimeLimits(monotonicSeconds());
  readonly #waiting = new Map<string, () => void>();
  readonly #entry = new Entry();
  #timer: NodeJS.Timeout | undefined;
  #serial = 0;

  constructor(options: DrivenOptions) {
    this.#options = options;
    this.#inner = new ShuntTable(options.client, options.owners, options.events);
  }

  async start(): Promise<void> {
    await this.#inner.start();
    this.#timer = setInterval(() => void this.#tick(), TICK_MS);
  }

  /** Ends what it has in the tables itself; what workers have is theirs to end. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#inner.endWhere(() => true, 'asked');
    await this.#inner.stop();
    for (const done of this.#waiting.values()) done();
  }

  /** Entries of clients that no worker knows of. */
  get direct(): number {
    return this.#inner.size;
  }

  /** It is, or was, one of those. */
  isDirect(shunt: Shunt): boolean {
    return !this.#isForeign(shunt) && !this.#byWorkers.has(shunt);
  }

  async add(wanted: readonly Wanted[]): Promise<number[]> {
    const answers = await this.#options.order({
      take: wanted.map(({ key: { family, bytes }, trigger, after }) => ({
        family,
        key: bytes,
        trigger,
        after,
      })),
    });
    const results: number[] = wanted.map(() => 0);
    const unknown: number[] = [];
    for (const [i, want] of wanted.entries()) {
      const said = answers.map((each) => each[i] ?? Order.unknown);
      // Done by one is done, whatever the others know.
      if (said.includes(Order.done)) this.#enter(want);
      else if (said.every((answer) => answer === Order.unknown)) unknown.push(i);
      else results[i] = ERRNO[Math.max(...said)];
    }
    const added = this.#inner.add(unknown.map((i) => wanted[i]));
    unknown.forEach((i, at) => (results[i] = added[at]));
    return results;
  }

  #enter(want: Wanted): void {
    const { owners, events } = this.#options;
    const { family, bytes, tcp } = want.key;
    const now = monotonicSeconds();
    const shunt = new Shunt(
      bytes,
      {
        family,
        tcp,
        slot: want.slot,
        trigger: want.trigger,
        since: Date.now() / 1000,
        expires: want.ttl === undefined ? undefined : now + want.ttl,
        start: undefined,
        unlimited: want.idle === undefined,
      },
      ++this.#serial,
      0,
    );
    const before = this.#driven.get(shunt.text);
    if (before !== undefined) this.#leave(before);
    this.#driven.set(shunt.text, shunt);
    this.#byWorkers.add(shunt);
    this.#limits.add(shunt);
    const owner = owners.at(shunt.slot);
    if (owner !== undefined) owner.entries++;
    events.started(shunt, () => this.row(shunt) ?? this.#describe(shunt, new Entry()));
  }

  #leave(shunt: Shunt): void {
    const { owners } = this.#options;
    this.#driven.delete(shunt.text);
    this.#limits.remove(shunt);
    const owner = owners.at(shunt.slot);
    if (owner === undefined) return;
    owner.entries--;
    if (owner.leaving && owner.entries === 0) owners.forget(owner);
  }

  /** A worker tells of a shunt that has begun or ended. */
  told({ family, key, trigger, reason, sides }: ToldShunt): void {
    const { events } = this.#options;
    const own = this.#driven.get(keyText(key));
    const shunt = own ?? this.#foreign(family, key, 1, trigger);
    if (reason === undefined) {
      events.started(shunt, () => this.#describe(shunt, new Entry()));
      return;
    }
    const entry = new Entry();
    sides?.forEach((side, i) => Object.assign(entry.dirs[i], side));
    for (const dir of entry.dirs) dir.state = State.ending;
    const why = own?.reason ?? reason;
    if (own !== undefined) this.#leave(own);
    events.ended(shunt, why, this.#describe(shunt, entry), undefined);
    this.#waiting.get(shunt.text)?.();
  }

  current(shunt: Shunt): boolean {
    return this.#driven.get(shunt.text) === shunt || this.#inner.current(shunt) || this.#isForeign(shunt);
  }

  #isForeign({ slot }: Shunt): boolean {
    return !this.#options.owners.isClient(slot);
  }

  find(key: Uint8Array): Shunt | undefined {
    const known = this.#driven.get(keyText(key)) ?? this.#inner.find(key);
    if (known !== undefined) return known;
    const family = key.length === KEY_SIZE[4] ? 4 : 6;
    const entry = this.#entry;
    if (!this.#options.client.read(family, key, key[PROTOCOL_AT[family]] === IPPROTO_TCP, entry))
      return undefined;
    if (entry.ending || this.#options.owners.isClient(entry.owner)) return undefined;
    return this.#foreign(family, key, entry.owner);
  }

  look({ bytes }: FlowKey): Shunt | undefined {
    return this.find(bytes);
  }

  #foreign(family: 4 | 6, key: Uint8Array, slot: number, trigger?: string): Shunt {
    return new Shunt(
      key,
      {
        family,
        tcp: key[PROTOCOL_AT[family]] === IPPROTO_TCP,
        slot,
        trigger: trigger ?? this.#options.triggerOf(family, key),
        since: undefined,
        expires: undefined,
        start: undefined,
        unlimited: false,
      },
      0,
      0,
    );
  }

  row(shunt: Shunt): ShuntRow | undefined {
    if (this.#inner.current(shunt)) return this.#inner.row(shunt);
    const there = this.#options.client.read(shunt.family, shunt.key, shunt.tcp, this.#entry);
    // A worker may have it still before it: it waits until all that came before has been handled.
    if (!there) return this.#isForeign(shunt) ? undefined : this.#describe(shunt, new Entry());
    return this.#describe(shunt, this.#entry);
  }

  #describe(shunt: Shunt, entry: Entry): ShuntRow {
    const { family, key, trigger, since, expires } = shunt;
    const about = { owner: this.ownerOf(shunt), trigger, since, expires, start: undefined };
    return shuntRow(family, key, entry, about, realtimeOffset());
  }

  ownerOf({ slot }: Shunt): string {
    return slot === BY_HAND ? '' : this.#options.owners.nameOf(slot);
  }

  hasUnlimited(slot: number): boolean {
    return this.#inner.hasUnlimited(slot);
  }

  async end(shunts: readonly Shunt[], reason: string): Promise<void> {
    const inner = shunts.filter((shunt) => this.#inner.current(shunt));
    const workers = shunts.filter((shunt) => !this.#inner.current(shunt));
    await this.#inner.end(inner, reason);
    if (workers.length === 0) return;
    const told = workers.map((shunt) => this.#endOf(shunt, reason));
    // What somebody asks for policies do not undo.
    await this.#options.order({ release: workers.map(refOf), settle: reason === 'asked' });
    await Promise.all(told);
  }

  /** Resolves when the worker has told of the end, or has had its time to. */
  async #endOf(shunt: Shunt, reason: string): Promise<void> {
    const own = this.#driven.get(shunt.text) === shunt;
    if (!own) return;
    shunt.reason = reason;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.set(shunt.text, resolve);
    const timer = setTimeout(resolve, END_MS);
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(shunt.text);
    // It never came to a shunt.
    if (this.#driven.get(shunt.text) !== shunt) return;
    this.#leave(shunt);
    this.#options.events.ended(shunt, reason, this.#describe(shunt, new Entry()), undefined);
  }

  async endWhere(meant: (shunt: Shunt) => boolean, reason: string): Promise<number> {
    const found: Shunt[] = [];
    for await (const slice of this.#sensors()) found.push(...slice.filter(meant));
    for (const shunt of this.#driven.values())
      if (shunt.reason === undefined && meant(shunt)) found.push(shunt);
    const [inner] = await Promise.all([this.#inner.endWhere(meant, reason), this.end(found, reason)]);
    return inner + found.length;
  }

  async *slices(size: number): AsyncGenerator<Shunt[]> {
    yield* this.#inner.slices(size);
    yield [...this.#driven.values()];
    await nextTurn();
    yield* this.#sensors();
  }

  /** What the policies of the sensor have shunted, as it stands in the tables. */
  async *#sensors(): AsyncGenerator<Shunt[]> {
    for (const family of [4, 6] as const) {
      const found: Shunt[] = [];
      const entry = new Entry();
      const size = KEY_SIZE[family];
      await this.#options.client.sweep(family, (keys, offset, values, at) => {
        const key = keys.subarray(offset, offset + size);
        readEntry(values, at, family, key[PROTOCOL_AT[family]] === IPPROTO_TCP, entry);
        if (entry.ending || this.#options.owners.isClient(entry.owner)) return;
        if (!this.#driven.has(keyText(key))) found.push(this.#foreign(family, key, entry.owner));
      });
      yield found;
    }
  }

  async #tick(): Promise<void> {
    const { owners, events } = this.#options;
    try {
      const over = this.#limits.over(monotonicSeconds(), PORTION);
      if (over.length > 0) await this.end(over, 'limit');
      const lapsed = new Set(owners.all().flatMap(({ slot }) => (owners.lapsed(slot) ? [slot] : [])));
      if (lapsed.size === 0) return;
      const theirs = [...this.#driven.values()].filter(
        ({ slot, reason }) => reason === undefined && lapsed.has(slot),
      );
      if (theirs.length > 0) await this.end(theirs.slice(0, PORTION), 'lease');
    } catch (error) {
      events.failed(error as Error);
    }
  }
}

function refOf({ family, key }: Shunt): FlowRef {
  return { family, key };
}
