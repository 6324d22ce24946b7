import { createHash } from 'node:crypto';
import type { KV, KvEntry } from '@nats-io/kv';
import type { z } from 'zod';
import type { SigningKey } from '../fleet/keys.ts';
import { keyOf } from '../fleet/nats-source.ts';
import { MAX_SKEW, readEnvelope, signStatement } from '../fleet/statement.ts';
import { actionText, ruleSchema } from '../rules/spec.ts';
import type { Lifeline } from './connected.ts';
import { OVER_AFTER, type OverKey, purgeKeys } from './purge.ts';

/** What the ids of rules begin with that detectors have made. */
export const ISSUED = 'auto-';
/** Rules live so long, and are renewed when so much of that is left. */
export const LIFE_SECONDS = 120;
const RENEW_SECONDS = 60;
/** A withdrawal outlives all that it withdraws, whatever clocks say. */
const WITHDRAWN_SECONDS = LIFE_SECONDS + 2 * MAX_SKEW;
/** Before rules of people, who have 1000 unless they say otherwise. */
const PRIORITY = 500;
const MAX_ID = 58;
const RETRY_MS = 1000;

const issued = ruleSchema.pick({ expr: true, lang: true, action: true });
export type IssuedRule = z.output<typeof issued>;

/** The same for the same target and kind of attack, whoever makes the rule: one that is made twice is there once. */
export function ruleId(kind: string, target: string, number: number): string {
  const id = `${ISSUED}${kind}-${target.replace(/[^A-Za-z0-9.]+/g, '-').replace(/^-+|-+$/g, '')}-${number}`;
  if (id.length <= MAX_ID) return id;
  const digest = createHash('sha256').update(id).digest('hex').slice(0, 16);
  return `${id.slice(0, MAX_ID - 17)}-${digest}`;
}

interface Wanted {
  readonly partition: string;
  readonly attack: string;
  readonly note: string;
  readonly rule: IssuedRule;
}

interface Published {
  readonly partition: string;
  readonly attack: string;
  /** What it says. */
  readonly text: string;
  readonly expires: number;
  readonly revision: number;
}

/** A statement as it is in the bucket. */
interface Seen {
  /** Of the bucket. */
  readonly sequence: number;
  readonly revision: number;
  readonly withdrawn: boolean;
  readonly expires: number;
  readonly key: string;
  readonly rule: IssuedRule | undefined;
}

export interface IssuerParts {
  /** Of rules. */
  readonly bucket: string;
  readonly key: SigningKey;
  readonly author: string;
  readonly log: (line: object) => void;
  readonly warn: (text: string) => void;
}

/** Keeps signed rules in a fleet's bucket for as long as attacks last, and takes them out afterwards. */
export class RuleIssuer {
  readonly #parts: IssuerParts;
  readonly #wanted = new Map<string, Wanted>();
  readonly #published = new Map<string, Published>();
  /** By key of the bucket. */
  readonly #seen = new Map<string, Seen>();
  readonly #reverted = new Set<string>();
  #bucket: { readonly line: Lifeline; readonly kv: KV } | undefined;
  #working: Promise<void> | undefined;
  #again = false;
  #retry = Number.POSITIVE_INFINITY;

  constructor(parts: IssuerParts) {
    this.#parts = parts;
  }

  /** Follows the bucket until the connection ends; `ready` is called once all that is there has been seen. */
  async follow(line: Lifeline, kv: KV, ready: () => void): Promise<void> {
    const watch = await kv.watch();
    let waiting = true;
    const isReady = (): void => {
      if (!waiting) return;
      waiting = false;
      this.#bucket = { line, kv };
      ready();
      this.sync();
    };
    const ends = line.until(new Promise<never>(() => {})).then(() => watch.stop());
    const status = await line.until(kv.status());
    if (status?.values === 0) isReady();
    for await (const entry of watch) {
      this.#see(entry);
      if (entry.isUpdate) isReady();
    }
    await ends;
    this.#bucket = undefined;
  }

  #see(entry: KvEntry): void {
    const known = this.#seen.get(entry.key);
    if (entry.operation !== 'PUT') {
      // A key that is gone says nothing, but what is written next has to follow it.
      if (known !== undefined) this.#seen.set(entry.key, { ...known, sequence: entry.revision });
      return;
    }
    const envelope = readEnvelope(entry.string());
    const { id, revision, rule, expires } = envelope?.signed ?? {};
    if (envelope === undefined || typeof id !== 'string' || !id.startsWith(ISSUED)) return;
    if (typeof revision !== 'number' || typeof expires !== 'number') return;
    const withdrawn = rule === null;
    this.#seen.set(entry.key, {
      sequence: entry.revision,
      revision,
      withdrawn,
      expires,
      key: envelope.key,
      rule: issued.safeParse(rule).data,
    });
    const ours = this.#published.get(id);
    if (ours === undefined || revision <= ours.revision || !withdrawn) return;
    // Somebody at a desk has the last word while the attack lasts.
    this.#published.delete(id);
    this.#reverted.add(ours.attack);
    this.#parts.log({ event: 'reverted', id: ours.attack, rule: id });
    this.sync();
  }

  /** A rule that is in force, and that we, or who had our key before us, have signed. */
  inForce(id: string): IssuedRule | undefined {
    const seen = this.#seen.get(keyOf(id));
    if (seen === undefined || seen.withdrawn || seen.key !== this.#parts.key.id) return undefined;
    return seen.expires > Date.now() / 1000 ? seen.rule : undefined;
  }

  /** Goes on with a rule that somebody else has published. */
  adopt(id: string, wanted: Wanted): void {
    const seen = this.#seen.get(keyOf(id));
    if (seen === undefined) return;
    const { partition, attack } = wanted;
    const { revision, expires } = seen;
    this.#wanted.set(id, wanted);
    this.#published.set(id, { partition, attack, text: textOf(wanted.rule), expires, revision });
  }

  /** What is to be in force against an attack from now on; no rules: nothing. */
  want(partition: string, attack: string, note: string, rules: ReadonlyMap<string, IssuedRule>): void {
    for (const [id, wanted] of this.#wanted)
      if (wanted.attack === attack && !rules.has(id)) this.#wanted.delete(id);
    if (!this.#reverted.has(attack))
      for (const [id, rule] of rules) this.#wanted.set(id, { partition, attack, note, rule });
    this.sync();
  }

  isReverted(attack: string): boolean {
    return this.#reverted.has(attack);
  }

  /** Somebody else looks after this partition: its rules are theirs, and stay. */
  drop(partition: string): void {
    for (const map of [this.#wanted, this.#published])
      for (const [id, entry] of map) if (entry.partition === partition) map.delete(id);
  }

  /** To be called once a second. */
  check(): void {
    const soon = Date.now() / 1000 + RENEW_SECONDS;
    const late = performance.now() > this.#retry;
    if (late || [...this.#published.values()].some(({ expires }) => expires < soon)) this.sync();
  }

  /** Makes the bucket what the attacks need; one change after the other. */
  sync(): void {
    this.#again = true;
    if (this.#bucket !== undefined) this.#working ??= this.#work();
  }

  async #work(): Promise<void> {
    while (this.#again && this.#bucket !== undefined) {
      this.#again = false;
      this.#retry = Number.POSITIVE_INFINITY;
      try {
        await this.#change(this.#bucket.line, this.#bucket.kv);
      } catch (error) {
        this.#retry = performance.now() + RETRY_MS;
        this.#parts.warn(`rules are not published: ${(error as Error).message}`);
      }
    }
    // At once: what is wanted from now on has to begin anew.
    this.#working = undefined;
  }

  /** Takes keys that have been over for long out of the bucket; a detector at a time has to do it. @throws Error */
  async purge(): Promise<number> {
    const { line, kv } = this.#bucket ?? {};
    if (line === undefined || kv === undefined) return 0;
    const over = this.#over(OVER_AFTER);
    if (over.length === 0) return 0;
    const gone = await purgeKeys(line, this.#parts.bucket, over);
    for (const { key, sequence } of gone)
      if (this.#seen.get(key)?.sequence === sequence) this.#seen.delete(key);
    return gone.length;
  }

  /** What whoever has the purging to do has taken out by now. */
  forget(): void {
    for (const { key } of this.#over(2 * OVER_AFTER)) this.#seen.delete(key);
  }

  /** Keys whose statements have been over for so many seconds. */
  #over(seconds: number): OverKey[] {
    const before = Date.now() / 1000 - seconds;
    return [...this.#seen]
      .filter(([, { expires }]) => expires < before)
      .map(([key, { sequence }]) => ({ key, sequence }));
  }

  /** Resolves when no change is under way. */
  async settled(): Promise<void> {
    await this.#working;
  }

  async #change(line: Lifeline, kv: KV): Promise<void> {
    const now = Date.now() / 1000;
    for (const [id, wanted] of this.#wanted) {
      if (this.#reverted.has(wanted.attack)) this.#wanted.delete(id);
      const { partition, attack, note, rule } = wanted;
      const text = textOf(rule);
      const ours = this.#published.get(id);
      if (!this.#wanted.has(id) || (ours?.text === text && ours.expires > now + RENEW_SECONDS)) continue;
      const expires = Math.ceil(now + LIFE_SECONDS);
      const body = { ...rule, note, priority: PRIORITY };
      const revision = await this.#publish(line, kv, id, body, expires);
      if (revision === undefined) return;
      this.#published.set(id, { partition, attack, text, expires, revision });
      this.#parts.log({
        event: ours?.text === text ? 'renewed' : 'live',
        id: attack,
        rule: id,
        expr: rule.expr,
        action: actionText(rule.action),
      });
    }
    for (const [id, { attack }] of this.#published) {
      if (this.#wanted.has(id)) continue;
      const done = await this.#publish(line, kv, id, null, Math.ceil(now + WITHDRAWN_SECONDS));
      if (done === undefined) return;
      this.#published.delete(id);
      this.#parts.log({ event: 'lifted', id: attack, rule: id });
    }
  }

  /** Its revision; undefined: the connection has ended. @throws Error when somebody was faster */
  async #publish(
    line: Lifeline,
    kv: KV,
    id: string,
    rule: (IssuedRule & { note: string; priority: number }) | null,
    expires: number,
  ): Promise<number | undefined> {
    const { key, author } = this.#parts;
    const name = keyOf(id);
    const seen = this.#seen.get(name);
    const revision = Math.max(Date.now(), (seen?.revision ?? 0) + 1);
    const about = { version: 1, id, revision, author, issued: Math.floor(Date.now() / 1000) } as const;
    const text = signStatement({ ...about, expires, rule }, key);
    const put = seen === undefined ? kv.create(name, text) : kv.update(name, text, seen.sequence);
    let sequence: number | undefined;
    try {
      sequence = await line.until(put);
    } catch (error) {
      // Keys that are taken out for good are not told of, and not all that was told of is remembered.
      const there = await line.until(kv.get(name));
      if (there === null) this.#seen.delete(name);
      else if (there !== undefined) this.#see(there);
      throw error;
    }
    if (sequence === undefined) return undefined;
    this.#seen.set(name, {
      sequence,
      revision,
      withdrawn: rule === null,
      expires,
      key: key.id,
      rule: rule ?? undefined,
    });
    return revision;
  }
}

const textOf = ({ expr, lang, action }: IssuedRule): string => `${lang} ${expr} ${actionText(action)}`;
