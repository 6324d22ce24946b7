import { Kvm } from '@nats-io/kv';
import type { Subscription } from '@nats-io/transport-node';
import { SluiceError } from '../base/errors.ts';
import type { SigningKey } from '../fleet/keys.ts';
import { NatsDesk } from '../fleet/nats-desk.ts';
import type { NatsPlace } from '../fleet/nats-place.ts';
import { MAX_LINE } from '../fleet/statement.ts';
import type { Told } from '../mitigation/index.ts';
import { ATTACKS_BUCKET, AttackBook, type AttackDocument } from './attack-book.ts';
import { BaselineBook } from './baseline-book.ts';
import type { CarriedRule } from './carried-rule.ts';
import { Connected, type Lifeline } from './connected.ts';
import { DetectThread } from './detect-thread.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { subjects } from './partition.ts';
import { type PartitionCounts, type PartitionOptions, SECOND } from './partition-detector.ts';
import { sumResults } from './results.ts';
import { type IssuedRule, RuleIssuer, ruleId } from './rule-issuer.ts';
import { agreeSettings } from './settings.ts';

export interface FleetDetectorOptions extends Omit<PartitionOptions, 'partitions'> {
  readonly place: NatsPlace;
  /** Of a fleet that has no partitions yet. */
  readonly partitions: number;
  readonly key: SigningKey;
  readonly author: string;
  /** Rules are proposed and told of, not published. */
  readonly dryRun: boolean;
}

export interface FleetDetectorParts {
  /** A line of mitigation.log. */
  readonly log: (line: object) => void;
  readonly notice: (note: string, message: string) => void;
  readonly warn: (text: string) => void;
}

export interface FleetDetectorStatus {
  id: string;
  connected: boolean;
  problem: string | null;
  /** Of the fleet; null: it has not been asked yet. */
  partitions: number | null;
  /** Detectors that live, as this one sees it. */
  detectors: number;
  held: string[];
  /** Batches that this process was too slow for. */
  dropped: number;
  counts: Record<string, PartitionCounts>;
}

const CHECK_MS = 100;
const LEAVE_MS = 2000;
const RETRY_MS = 1000;
/** Checks between looks at keys of rules that have been over for long; a minute. */
const PURGE_CHECKS = 600;

/** An attack of ours, and what its rules are. */
interface Known {
  readonly document: AttackDocument;
  /** Rules of it that were in force when we came, and for which nothing better has been found. */
  readonly carried: Set<string>;
}

/** A detector of a fleet: holds a share of the partitions, finds attacks in their samples, and publishes signed rules. */
export class FleetDetector {
  readonly #options: FleetDetectorOptions;
  readonly #parts: FleetDetectorParts;
  readonly #link: Connected;
  readonly #issuer: RuleIssuer;
  readonly #book: AttackBook;
  readonly #baselines: BaselineBook;
  readonly #known = new Map<string, Known>();
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #timer: NodeJS.Timeout;
  #leases: LeaseKeeper | undefined;
  #thread: DetectThread | undefined;
  #partitions = 0;
  #line: Lifeline | undefined;
  #left: Promise<void> | undefined;
  #ended = false;
  #checks = 0;
  /** As far as is known: the right to it is one of its own. */
  #mayPurge = true;

  constructor(options: FleetDetectorOptions, parts: FleetDetectorParts) {
    const { place, key, author } = options;
    const { log, warn } = parts;
    this.#options = options;
    this.#parts = parts;
    this.#issuer = new RuleIssuer({ bucket: place.rules, key, author, log, warn });
    this.#book = new AttackBook(warn);
    this.#baselines = new BaselineBook(warn);
    this.#link = new Connected({
      place,
      work: (line, good) => this.#work(line, good),
      failed: (reason) => warn(`${place.name} is away: ${reason}; nothing is decided until it is back`),
      back: () => warn(`${place.name} is back`),
    });
    this.#timer = setInterval(() => this.#check(), CHECK_MS);
  }

  start(): void {
    this.#link.start();
  }

  #check(): void {
    this.#leases?.check();
    if (++this.#checks % 10 === 0) this.#issuer.check();
    if (this.#checks % PURGE_CHECKS === 0) void this.#purge();
  }

  /** Whoever holds the second stage does it for all. */
  async #purge(): Promise<void> {
    if (this.#options.dryRun || this.#leases?.held.includes(SECOND) !== true) {
      this.#issuer.forget();
      return;
    }
    try {
      const keys = await this.#issuer.purge();
      if (keys > 0) this.#parts.log({ event: 'purged', keys });
    } catch (error) {
      if (this.#mayPurge)
        this.#parts.warn(`rules that are over stay in the bucket: ${(error as Error).message}`);
      this.#mayPurge = false;
    }
  }

  async #work(line: Lifeline, good: () => void): Promise<void> {
    const { bucket, rules } = this.#options.place;
    const names = subjects(bucket);
    const kvm = new Kvm(line.connection);
    const [detectors, attacks, published] = await Promise.all([
      kvm.create(names.detectors, { history: 1 }),
      kvm.create(names.attacks, ATTACKS_BUCKET),
      kvm.create(rules, { history: 1, maxValueSize: MAX_LINE }),
    ]);
    const { partitions } = await agreeSettings(detectors, this.#options.partitions);
    this.#agree(partitions);
    const leases = this.#leases as LeaseKeeper;
    this.#line = line;
    this.#book.attach(line, attacks, names.attacks);
    this.#baselines.attach(line, attacks);
    // Nothing is held before it is known what is in force.
    let following: Promise<void> | undefined;
    await new Promise<void>((ready, failed) => {
      following = this.#issuer.follow(line, published, ready).catch(() => line.connection.close());
      following.then(ready, failed);
    });
    for (const name of leases.held) this.#subscribe(name);
    this.#left = leases.work(line, detectors, good);
    await this.#left;
    for (const subscription of this.#subscriptions.values()) subscription.unsubscribe();
    this.#subscriptions.clear();
    await line.connection.close();
    await following;
  }

  /** @throws SluiceError FLEET when the fleet has other partitions than before */
  #agree(partitions: number): void {
    if (this.#partitions === partitions) return;
    if (this.#partitions !== 0)
      throw new SluiceError('FLEET', `the fleet has ${partitions} partitions, it had ${this.#partitions}`);
    this.#partitions = partitions;
    this.#thread = this.#begin();
    const names = [...Array.from({ length: partitions }, (_, at) => String(at)), SECOND];
    this.#leases = new LeaseKeeper(names, {
      held: (name, resumed) => this.#take(name, resumed),
      lost: (name) => this.#lost(name),
    });
  }

  #begin(): DetectThread {
    const { minPps, factor, learning, vetoes } = this.#options;
    const setup = { minPps, factor, learning, vetoes, partitions: this.#partitions };
    return new DetectThread(setup, {
      told: (name, told) => this.#told(name, told),
      over: (name, rule) => this.#over(name, rule),
      summary: (bytes) => {
        const line = this.#line;
        if (line?.ended === false)
          line.connection.publish(subjects(this.#options.place.bucket).second, bytes);
      },
      learned: (name, baseline) => this.#baselines.put(name, baseline),
      failed: (error) => this.#failed(error),
    });
  }

  /** What was known of attacks has gone with the thread; others may do better. */
  #failed(error: Error): void {
    this.#parts.warn(`attacks are looked for anew: ${error.message}`);
    this.#parts.log({ event: 'failed', reason: error.message });
    for (const name of this.#leases?.held ?? []) this.#lost(name);
    setTimeout(() => {
      if (this.#ended) return;
      this.#thread = this.#begin();
      for (const name of this.#leases?.held ?? []) this.#take(name, false);
    }, RETRY_MS).unref();
  }

  #subscribe(name: string): void {
    const line = this.#line;
    if (line === undefined || line.ended) return;
    const { samples, second } = subjects(this.#options.place.bucket);
    this.#subscriptions.get(name)?.unsubscribe();
    const subscription = line.connection.subscribe(name === SECOND ? second : samples(Number(name)), {
      callback: (error, message) => {
        if (error === null) this.#thread?.batch(name, message.data);
      },
    });
    this.#subscriptions.set(name, subscription);
  }

  #take(name: string, resumed: boolean): void {
    this.#held(name, resumed).catch((error: Error) =>
      this.#parts.warn(`partition ${name} cannot be looked at: ${error.message}`),
    );
  }

  async #held(name: string, resumed: boolean): Promise<void> {
    this.#parts.log({ event: 'held', partition: name, resumed });
    const [open, baseline] = await Promise.all([this.#book.open(name), this.#baselines.of(name)]);
    if (this.#leases?.held.includes(name) !== true) return;
    const carried: CarriedRule[] = [];
    for (const document of open.filter(({ dryRun }) => !dryRun)) this.#adopt(document, resumed, carried);
    this.#thread?.send({ kind: 'begin', name, resumed, carried, baseline });
    this.#subscribe(name);
  }

  /** An attack that lasted when we came: its rules stay for as long as what they match does. */
  #adopt(document: AttackDocument, resumed: boolean, into: CarriedRule[]): void {
    const { id, partition } = document;
    const note = noteOf(document);
    const carried = new Set<string>();
    for (const { id: ruleName } of document.rules) {
      const rule = this.#issuer.inForce(ruleName);
      if (rule === undefined) continue;
      this.#issuer.adopt(ruleName, { partition, attack: id, note, rule });
      if (resumed) continue;
      carried.add(ruleName);
      into.push({ id: ruleName, ...rule });
    }
    this.#known.set(id, { document, carried });
    if (!resumed && carried.size === 0) this.#close(id);
  }

  #lost(name: string): void {
    this.#parts.log({ event: 'lost', partition: name });
    this.#subscriptions.get(name)?.unsubscribe();
    this.#subscriptions.delete(name);
    this.#thread?.send({ kind: 'end', name });
    this.#issuer.drop(name);
    for (const [id, { document }] of this.#known) if (document.partition === name) this.#known.delete(id);
  }

  #told(name: string, told: Told): void {
    if (this.#leases?.held.includes(name) !== true) return;
    const { change, kind, target } = told;
    const id = `p${name}-${told.id}`;
    const numbered = told.rules.map((rule, at): [string, typeof rule] => [
      ruleId(kind, target, at + 1),
      rule,
    ]);
    const document = {
      ...told.document,
      id,
      partition: name,
      dryRun: this.#options.dryRun,
      rules: numbered.map(([ruleName, { action: _action, ...rule }], at) => ({
        ...rule,
        action: (told.document as AttackDocument).rules[at].action,
        id: ruleName,
      })),
    } as unknown as AttackDocument;
    this.#parts.log({ event: change, ...document });
    if (told.attack && change !== 'changed') this.#notice(change === 'began', document);
    if (change === 'ended') {
      this.#known.delete(id);
      this.#tellResult(document);
    } else this.#known.set(id, { document, carried: new Set() });
    this.#book.put(document);
    if (this.#options.dryRun) return;
    const rules = new Map<string, IssuedRule>(
      change === 'ended'
        ? []
        : numbered.map(([ruleName, { expr, lang, action }]) => [ruleName, { expr, lang, action }]),
    );
    this.#issuer.want(name, id, noteOf(document), rules);
    if (rules.size > 0) this.#takeOver(document);
  }

  /** What was carried against the same has a successor now. */
  #takeOver({ id, partition, kind, target }: AttackDocument): void {
    for (const [other, { document, carried }] of this.#known) {
      if (other === id || carried.size === 0) continue;
      if (document.partition !== partition || document.kind !== kind || document.target !== target) continue;
      for (const rule of carried) this.#thread?.send({ kind: 'uncarry', name: partition, rule });
      carried.clear();
      this.#close(other);
    }
  }

  /** A carried rule matches nothing any more. */
  #over(name: string, rule: string): void {
    for (const [id, { document, carried }] of this.#known)
      if (document.partition === name && carried.delete(rule) && carried.size === 0) this.#close(id);
  }

  #close(id: string): void {
    const known = this.#known.get(id);
    if (known === undefined) return;
    this.#known.delete(id);
    const document = { ...known.document, ended: Math.round(Date.now()) / 1000 };
    this.#parts.log({ event: 'ended', ...document });
    this.#notice(false, document);
    this.#tellResult(document);
    this.#book.put(document);
    this.#issuer.want(document.partition, id, '', new Map());
  }

  /** What the edges say that its rules have done. */
  #tellResult({ id, rules, dryRun }: AttackDocument): void {
    if (dryRun || rules.length === 0) return;
    const ids = rules.map((rule) => rule.id);
    new NatsDesk(this.#options.place)
      .results()
      .then((edges) => this.#parts.log({ event: 'result', id, rules: sumResults(edges, ids) }))
      .catch(() => {
        // There is no bucket of results, or no server now: nobody has told anything.
      });
  }

  #notice(begins: boolean, { id, kind, target, rules }: AttackDocument): void {
    const answer = this.#issuer.isReverted(id)
      ? 'rules were taken out'
      : `${rules.length} rules${this.#options.dryRun ? ' proposed' : ''}`;
    this.#parts.notice(
      begins ? 'Sluice::Attack' : 'Sluice::Attack_Ended',
      `${kind} on ${target}${begins ? '' : ' is over'} (attack ${id}, ${answer})`,
    );
  }

  async status(): Promise<FleetDetectorStatus> {
    const problem = this.#link.problem ?? null;
    return {
      id: this.#leases?.id ?? '',
      connected: this.#line !== undefined && !this.#line.ended,
      problem,
      partitions: this.#partitions === 0 ? null : this.#partitions,
      detectors: this.#leases?.alive ?? 0,
      held: [...(this.#leases?.held ?? [])],
      dropped: this.#thread?.dropped ?? 0,
      counts: (await this.#thread?.status()) ?? {},
    };
  }

  /** Gives its share back; rules stay until they expire, or whoever takes over renews them. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#leases?.leave();
    const late = new Promise<void>((resolve) => setTimeout(resolve, LEAVE_MS).unref());
    await Promise.race([this.#left?.catch(() => {}), late]);
    clearInterval(this.#timer);
    await this.#issuer.settled();
    await this.#link.close();
    await this.#thread?.close();
  }
}

const noteOf = ({ kind, target, id }: AttackDocument): string =>
  `against ${kind} on ${target} (attack ${id})`;
