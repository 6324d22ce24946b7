import { rmSync, writeFileSync } from 'node:fs';
import { parseVeto, ResponderThread, type Told } from '../mitigation/index.ts';
import { actionText, type RuleInput } from '../rules/spec.ts';
import { BaselineFile } from './baseline-file.ts';
import type { Place } from './control-places.ts';
import { AuditLog } from './daemon-audit.ts';
import type { RuleKeeper } from './daemon-rules.ts';
import type { Gate } from './gate.ts';
import { SAMPLE_BYTES, SampleRows } from './sample-rows.ts';
import type { GateSampler } from './sampling.ts';

export interface MitigationOptions {
  /** Packets a second to one target that are never an attack. */
  minPps: number;
  /** Samples a second. */
  budget: number;
  /** Rules are proposed and logged, not put into force. */
  dryRun: boolean;
  /** As parseVeto reads them. */
  vetoes: string[];
}

export interface MitigationParts {
  gate: Gate;
  rules: RuleKeeper;
  place: Place;
  logDir: string;
  /** Takes what an attack is told by in notice.log when it begins and when it is over; undefined: that file in `logDir`. */
  notice?: (note: string, message: string) => void;
  warn: (text: string) => void;
}

const POLL_MS = 50;
/** Rules live so long, and are renewed when a part of that is left. */
const LIFE_SECONDS = 60;
const RENEW_SECONDS = 30;
/** Batches that may wait for the thread before samples are left in the ring, which loses and counts them. */
const MAX_PENDING = 64;
const KEPT_ATTACKS = 200;
/** Before rules of people, who have 1000 unless they say otherwise. */
const PRIORITY = 500;
const RETRY_MS = 1000;
/** What has been learned is kept so often. */
const KEEP_MS = 10_000;
/** What rules against attacks are made of, for the code that compiles and loads them to have been run, as often as it takes. */
const WARM_UP: readonly Pick<RuleInput, 'id' | 'expr' | 'lang'>[] = [
  { id: 'm-warm-up-1', expr: '**.invalid', lang: 'dns' },
  {
    id: 'm-warm-up-2',
    expr: 'dst net 192.0.2.0/24 and udp src port 123 and ip[8] >= 40 and ip[8] <= 64 and udp[8:4] = 0x17000328',
    lang: 'tcpdump',
  },
];
const WARM_UPS = 3;

/** Samples the gate, finds attacks, and keeps rules against them in force for as long as they last. */
export class MitigationKeeper {
  readonly #options: MitigationOptions;
  readonly #rules: RuleKeeper;
  readonly #place: Place;
  readonly #log: AuditLog;
  readonly #warn: (text: string) => void;
  readonly #sampler: GateSampler;
  readonly #notice: (note: string, message: string) => void;
  readonly #noticeLog: AuditLog | undefined;
  readonly #baseline: BaselineFile;
  #kept = performance.now();
  #responder: ResponderThread;
  /** By attack that lasts: what is proposed against it. */
  readonly #lasting = new Map<string, Told>();
  readonly #timer: NodeJS.Timeout;
  /** By rule: what it says, and until when. */
  readonly #ours = new Map<string, { text: string; expires: number; attack: string }>();
  readonly #reverted = new Set<string>();
  readonly #known = new Map<string, object>();
  #working: Promise<void> | undefined;
  #wanted = false;
  /** After a refusal; else for ever. */
  #retry = Number.POSITIVE_INFINITY;
  #closed = false;

  /** @throws SluiceError as Gate.sample and parseVeto */
  constructor(options: MitigationOptions, parts: MitigationParts) {
    this.#options = options;
    this.#rules = parts.rules;
    this.#place = parts.place;
    this.#warn = parts.warn;
    for (const veto of options.vetoes) parseVeto(veto);
    const rows = new SampleRows();
    this.#log = new AuditLog(parts.logDir, parts.warn, 'mitigation.log');
    const notices =
      parts.notice === undefined ? new AuditLog(parts.logDir, parts.warn, 'notice.log') : undefined;
    this.#noticeLog = notices;
    this.#notice = parts.notice ?? ((note, msg) => notices?.writeLine({ note, msg }));
    this.#sampler = parts.gate.sample(
      { every: 100, size: SAMPLE_BYTES, budget: options.budget },
      (sample) => {
        const { columns } = this.#responder;
        if (!rows.read(sample, columns, columns.count)) return;
        columns.count++;
        // The clock goes on with the last of them.
        if (columns.count === columns.capacity) this.#responder.send(0);
      },
    );
    this.#baseline = new BaselineFile(parts.place.baseline, parts.warn);
    this.#responder = this.#begin();
    this.#tell();
    if (!options.dryRun) {
      parts.gate.expectRules();
      this.#working = this.#warmUp().finally(() => {
        this.#working = undefined;
        this.#sync();
      });
    }
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
  }

  /** The first rules take ten times as long as others: what compiles and loads them has to be warm. No packet is asked for these. */
  async #warmUp(): Promise<void> {
    const rules = WARM_UP.map((rule) => ({ ...rule, action: { kind: 'count' as const }, enabled: false }));
    try {
      for (let i = 0; i < WARM_UPS && !this.#closed && !this.#wanted; i++) {
        await this.#rules.add({ rules, replace: true });
        await this.#rules.remove({ ids: rules.map(({ id }) => id) });
      }
    } catch (error) {
      this.#warn(`rules cannot be put into force: ${(error as Error).message}`);
    }
  }

  #begin(): ResponderThread {
    const { minPps, vetoes } = this.#options;
    return new ResponderThread(
      { minPps, vetoes, seed: process.pid, baseline: this.#baseline.read() },
      (told) => this.#changed(told),
      (error) => this.#failed(error),
      (inherited) => this.#log.writeLine({ event: 'inherited', ...inherited }),
    );
  }

  /** What was known of attacks has gone with the thread; rules in force stay until they expire. */
  #failed(error: Error): void {
    this.#warn(`attacks are looked for anew: ${error.message}`);
    this.#log.writeLine({ event: 'failed', reason: error.message });
    this.#lasting.clear();
    this.#ours.clear();
    setTimeout(() => {
      if (!this.#closed) this.#responder = this.#begin();
    }, RETRY_MS).unref();
  }

  /** What has just come may still be on its way through the rings of other CPUs. */
  get #clock(): number {
    return (Date.now() - POLL_MS) * 1e6;
  }

  #poll(): void {
    if (this.#responder.pending < MAX_PENDING) {
      this.#sampler.poll();
      this.#responder.send(this.#clock);
    }
    this.#keep();
    const soon = Date.now() / 1000 + RENEW_SECONDS;
    const late = performance.now() > this.#retry;
    if (late || [...this.#ours].some(([id, { expires }]) => expires < soon || !this.#rules.has(id)))
      this.#sync();
  }

  #keep(): void {
    const now = performance.now();
    if (now - this.#kept < KEEP_MS) return;
    this.#kept = now;
    this.#responder.snapshot((text) => this.#baseline.write(text));
  }

  #changed(told: Told): void {
    const { id, change } = told;
    if (change === 'ended') this.#lasting.delete(id);
    else this.#lasting.set(id, told);
    // First of all: what is told of it can wait.
    this.#sync();
    const document = { ...told.document, dryRun: this.#options.dryRun };
    this.#log.writeLine({ event: change, ...document });
    if (told.attack && change !== 'changed')
      this.#notice(
        change === 'began' ? 'Sluice::Attack' : 'Sluice::Attack_Ended',
        `${told.kind} on ${told.target}${change === 'ended' ? ' is over' : ''} (attack ${id}, ${this.#answer(told)})`,
      );
    this.#known.delete(id);
    this.#known.set(id, document);
    for (const known of this.#known.keys()) {
      if (this.#known.size <= KEPT_ATTACKS) break;
      this.#known.delete(known);
    }
    this.#tell();
  }

  #answer({ id, rules }: Told): string {
    if (this.#reverted.has(id)) return 'rules were taken out';
    return `${rules.length} rules${this.#options.dryRun ? ' proposed' : ''}`;
  }

  #tell(): void {
    try {
      writeFileSync(this.#place.attacks, JSON.stringify([...this.#known.values()]), { mode: 0o644 });
    } catch (error) {
      this.#warn(`attacks cannot be told of: ${(error as Error).message}`);
    }
  }

  /** Makes the rules what the attacks need; one change after the other. */
  #sync(): void {
    this.#wanted = true;
    if (this.#options.dryRun || this.#closed) return;
    this.#working ??= this.#work();
  }

  async #work(): Promise<void> {
    while (this.#wanted && !this.#closed) {
      this.#wanted = false;
      this.#retry = Number.POSITIVE_INFINITY;
      try {
        await this.#change();
      } catch (error) {
        this.#log.writeLine({ event: 'refused', reason: (error as Error).message });
        this.#retry = performance.now() + RETRY_MS;
        this.#warn(`rules against an attack are not in force: ${(error as Error).message}`);
      }
    }
    // At once: what is wanted from now on has to begin anew.
    this.#working = undefined;
  }

  async #change(): Promise<void> {
    const now = Date.now() / 1000;
    for (const [id, { attack, expires }] of this.#ours) {
      if (this.#rules.has(id)) continue;
      this.#ours.delete(id);
      // Somebody has taken it out: it stays out for as long as the attack lasts.
      if (expires > now && !this.#reverted.has(attack)) {
        this.#reverted.add(attack);
        this.#log.writeLine({ event: 'reverted', id: attack, rule: id });
      }
    }
    const wanted = new Map<string, { rule: RuleInput; text: string; attack: string }>();
    for (const { id: attack, kind, target, rules } of this.#lasting.values()) {
      if (this.#reverted.has(attack)) continue;
      for (const { id, expr, lang, action } of rules) {
        const text = `${lang} ${expr} ${actionText(action)}`;
        const note = `against ${kind} on ${target} (attack ${attack})`;
        const rule = { id, expr, lang, action, note, priority: PRIORITY, expires: now + LIFE_SECONDS };
        wanted.set(id, { rule, text, attack });
      }
    }
    const fresh = [...wanted].filter(([id, { text }]) => {
      const ours = this.#ours.get(id);
      return ours?.text !== text || ours.expires < now + RENEW_SECONDS;
    });
    if (fresh.length > 0) {
      const began = performance.now();
      await this.#rules.add({ rules: fresh.map(([, { rule }]) => rule), replace: true });
      for (const [id, { text, attack }] of fresh) {
        const renewed = this.#ours.get(id)?.text === text;
        this.#ours.set(id, { text, attack, expires: now + LIFE_SECONDS });
        const milliseconds = Math.round(performance.now() - began);
        this.#log.writeLine({ event: renewed ? 'renewed' : 'live', id: attack, rule: id, milliseconds });
      }
    }
    const over = [...this.#ours].filter(([id]) => !wanted.has(id));
    if (over.length === 0) return;
    for (const [id] of over) this.#ours.delete(id);
    const { removed } = await this.#rules.remove({
      ids: over.map(([id]) => id).filter((id) => this.#rules.has(id)),
    });
    for (const { id, matched, dropped } of removed)
      this.#log.writeLine({ event: 'lifted', rule: id, matched, dropped });
  }

  /** Ends it; its rules stay until they expire. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#sampler.close();
    await this.#responder.close();
    await this.#working;
    await this.#baseline.settled();
    this.#log.close();
    this.#noticeLog?.close();
    rmSync(this.#place.attacks, { force: true });
  }
}
