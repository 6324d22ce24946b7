import { randomBytes } from 'node:crypto';
import type { KV, KvWatchEntry } from '@nats-io/kv';
import { z } from 'zod';
import type { Lifeline } from './connected.ts';
import { LeaseBook, type LeaseStep, LIFE } from './leases.ts';

const SESSION = 'session.';
const LEASE = 'lease.';
/** Seconds between looks at what there is to do; a session is renewed each second. */
const LOOK_EVERY = 0.25;
const RENEW_MS = LIFE / 3;
/** Milliseconds after which the session of somebody who is gone is cleared away. */
const CLEAR_AFTER = 60_000;

const leaseSchema = z.object({ holder: z.string().nullable() });

export interface LeaseEvents {
  /** `resumed`: nobody else has held it since we did. */
  readonly held: (name: string, resumed: boolean) => void;
  /** Whoever acts for it has to stop now. */
  readonly lost: (name: string) => void;
}

/** Holds a fair share of some names against others, in a bucket of NATS, by compare-and-set. */
export class LeaseKeeper {
  readonly id = randomBytes(8).toString('hex');
  readonly #events: LeaseEvents;
  readonly #book: LeaseBook;
  readonly #held = new Set<string>();
  /** By name: the revision of a lease when we had to let go of it. */
  readonly #lost = new Map<string, number>();
  #leaving = false;

  constructor(names: readonly string[], events: LeaseEvents) {
    this.#events = events;
    this.#book = new LeaseBook(this.id, names);
  }

  get held(): readonly string[] {
    return [...this.#held];
  }

  /** Detectors that live, as far as is known. */
  get alive(): number {
    return this.#book.alive(performance.now()).length;
  }

  /** To be called several times a second, whether there is a server or not: lets go of what time has taken. */
  check(): void {
    const book = this.#book;
    const now = new Set(book.held(performance.now()));
    for (const name of this.#held) if (!now.has(name)) this.#lose(name);
    for (const name of now) {
      if (this.#held.has(name)) continue;
      this.#held.add(name);
      this.#events.held(name, this.#lost.get(name) === book.revision(name));
    }
  }

  #lose(name: string): void {
    this.#held.delete(name);
    this.#lost.set(name, this.#book.revision(name));
    this.#events.lost(name);
  }

  /** Gives everything back, where somebody can be told: `work` ends then. */
  leave(): void {
    this.#leaving = true;
  }

  /** Until the connection ends. @throws Error */
  async work(line: Lifeline, bucket: KV, good: () => void): Promise<void> {
    const book = this.#book;
    // Nobody can have taken anything while our session is good.
    book.ready = book.valid(performance.now());
    const watch = await bucket.watch();
    // Who does not see what others do must not go on.
    const reading = this.#read(watch).catch(() => line.connection.close());
    let due = Number.NEGATIVE_INFINITY;
    while (!line.ended && !this.#leaving) {
      const now = performance.now();
      if (now >= due) {
        due = now + RENEW_MS;
        const done = await line.until(bucket.put(SESSION + this.id, JSON.stringify({ life: LIFE })));
        if (done === undefined) break;
        // What had ended meanwhile begins anew.
        this.check();
        book.renewed(now);
        good();
      }
      this.check();
      await this.#change(line, bucket);
      this.check();
      await line.pause(LOOK_EVERY);
    }
    if (!line.ended) await this.#giveBack(line, bucket);
    watch.stop();
    await reading;
  }

  async #giveBack(line: Lifeline, bucket: KV): Promise<void> {
    for (const name of this.held) {
      this.#lose(name);
      await this.#set(line, bucket, { name, revision: this.#book.revision(name) }, null);
    }
    await line.until(bucket.purge(SESSION + this.id).catch(() => {}));
  }

  async #read(watch: AsyncIterable<KvWatchEntry>): Promise<void> {
    for await (const { key, operation, value, revision, isUpdate } of watch) {
      const there = operation === 'PUT';
      const book = this.#book;
      if (key.startsWith(SESSION)) book.sawSession(key.slice(SESSION.length), there, performance.now());
      else if (key.startsWith(LEASE))
        book.sawLease(key.slice(LEASE.length), there ? holderOf(value) : null, revision);
      // By the number that there were: what is pending is miscounted for good by nats-server 2.9 where somebody writes meanwhile.
      if (isUpdate) book.ready = true;
    }
  }

  async #change(line: Lifeline, bucket: KV): Promise<void> {
    const { claim, release } = this.#book.plan(performance.now());
    for (const step of release) {
      this.#lose(step.name);
      await this.#set(line, bucket, step, null);
    }
    await Promise.all(claim.map((step) => this.#set(line, bucket, step, this.id)));
    for (const id of this.#book.stale(performance.now(), CLEAR_AFTER))
      await line.until(bucket.purge(SESSION + id).catch(() => {}));
  }

  async #set(
    line: Lifeline,
    bucket: KV,
    { name, revision }: LeaseStep,
    holder: string | null,
  ): Promise<void> {
    const key = LEASE + name;
    const text = JSON.stringify({ holder });
    try {
      const set = revision === 0 ? bucket.create(key, text) : bucket.update(key, text, revision);
      const done = await line.until(set);
      if (done !== undefined) this.#book.sawLease(name, holder, done);
    } catch {
      // Somebody was faster: the watch tells who.
    }
  }
}

function holderOf(value: Uint8Array): string | null {
  try {
    return leaseSchema.parse(JSON.parse(new TextDecoder().decode(value))).holder;
  } catch {
    return null;
  }
}
