import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type AttackRecord,
  attackDocument,
  type Change,
  parseVeto,
  Responder,
  SampleColumns,
  SampleReader,
} from '../mitigation/index.ts';
import { Packet } from '../packet/packet.ts';
import { actionText, type RuleInput } from '../rules/spec.ts';
import { type Place, RUN_DIRECTORY } from './control-places.ts';
import { AuditLog } from './daemon-audit.ts';
import type { RuleKeeper } from './daemon-rules.ts';
import type { Gate } from './gate.ts';
import { VERDICTS } from './layout.ts';
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

const POLL_MS = 50;
const SAMPLE_BYTES = 128;
/** Rules live so long, and are renewed when a part of that is left. */
const LIFE_SECONDS = 60;
const RENEW_SECONDS = 30;
const BATCH = 1024;
const KEPT_ATTACKS = 200;
/** Before rules of people, who have 1000 unless they say otherwise. */
const PRIORITY = 500;
const RETRY_MS = 1000;
const WARM_UP = 'm-warm-up';

/** Where a gate's daemon tells of the attacks that it knows: JSON, the document of `sluice attack ls --json`. */
export const attacksFile = ({ name }: Pick<Place, 'name'>): string => join(RUN_DIRECTORY, `${name}.attacks`);

/** Samples the gate, finds attacks, and keeps rules against them in force for as long as they last. */
export class MitigationKeeper {
  readonly #options: MitigationOptions;
  readonly #rules: RuleKeeper;
  readonly #place: Place;
  readonly #log: AuditLog;
  readonly #warn: (text: string) => void;
  readonly #sampler: GateSampler;
  readonly #responder: Responder;
  readonly #columns = new SampleColumns(BATCH);
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
  constructor(
    options: MitigationOptions,
    parts: { gate: Gate; rules: RuleKeeper; place: Place; logDir: string; warn: (text: string) => void },
  ) {
    this.#options = options;
    this.#rules = parts.rules;
    this.#place = parts.place;
    this.#warn = parts.warn;
    this.#responder = new Responder((record, change) => this.#changed(record, change), {
      minPps: options.minPps,
      vetoes: options.vetoes.map(parseVeto),
      seed: process.pid,
    });
    const reader = new SampleReader();
    const packet = new Packet();
    const columns = this.#columns;
    this.#log = new AuditLog(parts.logDir, parts.warn, 'mitigation.log');
    this.#sampler = parts.gate.sample(
      { every: 100, size: SAMPLE_BYTES, budget: options.budget },
      (sample) => {
        packet.u8 = sample.memory;
        packet.offset = sample.offset;
        packet.caplen = sample.captured;
        packet.wirelen = sample.length;
        packet.ts = sample.ts;
        const row = columns.count;
        if (!reader.read(packet, sample.every, columns, row)) return;
        columns.interface[row] = sample.ifindex;
        columns.verdict[row] = VERDICTS.indexOf(sample.verdict);
        columns.rule[row] = sample.rule ?? 0;
        columns.count++;
        if (columns.count === BATCH) this.#flush();
      },
    );
    this.#tell();
    if (!options.dryRun)
      this.#working = this.#warmUp().finally(() => {
        this.#working = undefined;
        this.#sync();
      });
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
  }

  /** The first rule takes far longer than others: what compiles and loads rules has to be there. No packet is asked for this one. */
  async #warmUp(): Promise<void> {
    const rule = { id: WARM_UP, expr: 'ip', action: { kind: 'count' }, enabled: false };
    try {
      await this.#rules.add({ rules: [rule], replace: true });
      await this.#rules.remove({ ids: [WARM_UP] });
    } catch (error) {
      this.#warn(`rules cannot be put into force: ${(error as Error).message}`);
    }
  }

  /** Samples so far. */
  get counts(): { taken: number; lost: number; over: number } {
    return this.#sampler.counts();
  }

  #flush(): void {
    this.#responder.add(this.#columns);
    this.#columns.count = 0;
  }

  #poll(): void {
    this.#sampler.poll();
    this.#flush();
    // What has just come may still be on its way through the rings of other CPUs.
    if (!Number.isNaN(this.#responder.detector.now))
      this.#responder.detector.advance(Date.now() * 1e6 - POLL_MS * 1e6);
    const soon = Date.now() / 1000 + RENEW_SECONDS;
    const late = performance.now() > this.#retry;
    if (late || [...this.#ours].some(([id, { expires }]) => expires < soon || !this.#rules.has(id)))
      this.#sync();
  }

  #changed(record: AttackRecord, change: Change): void {
    const document = { ...attackDocument(record), dryRun: this.#options.dryRun };
    this.#log.writeLine({ event: change, ...document });
    this.#known.delete(record.id);
    this.#known.set(record.id, document);
    for (const id of this.#known.keys()) {
      if (this.#known.size <= KEPT_ATTACKS) break;
      this.#known.delete(id);
    }
    this.#tell();
    this.#sync();
  }

  #tell(): void {
    try {
      writeFileSync(attacksFile(this.#place), JSON.stringify([...this.#known.values()]), { mode: 0o644 });
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
    for (const { id: attack, kind, target, rules } of this.#responder.records) {
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
    await this.#working;
    this.#log.close();
    rmSync(attacksFile(this.#place), { force: true });
  }
}
