import type { SampleColumns } from './columns.ts';
import { type Attack, Detector, type DetectorOptions } from './detector.ts';
import { attackRows, type Evidence, evidenceOf, type Judgement, judge } from './evidence.ts';
import { KINDS } from './kinds.ts';
import { QueryName } from './names.ts';
import { prefixText } from './prefix.ts';
import { matchedRows, type ProposedRule, type SynthesisOptions, synthesize } from './synthesis.ts';

export interface ResponderOptions extends Partial<DetectorOptions>, Partial<SynthesisOptions> {
  /** Rules at a time, of all attacks. */
  readonly maxLive?: number;
  /** Attacks that somebody else answers are none of ours; undefined: all are. */
  readonly answers?: (attack: Attack) => boolean;
}

/** All that is known of an attack, and of what is proposed against it: what `mitigation.log` and `sluice detect` show. */
export interface AttackRecord {
  id: string;
  kind: string;
  /** Address, prefix or name. */
  target: string;
  /** Seconds since the epoch. */
  began: number;
  noticed: number;
  ended: number | undefined;
  /** Packets a second. */
  peak: number;
  usual: number;
  threshold: number;
  packets: number;
  evidence: Evidence;
  judgement: Judgement;
  rules: ProposedRule[];
  /** Shares of the samples: matched by no rule; likely to be nobody's attack. */
  uncovered: number;
  usualShare: number;
  notes: string[];
  /** How often the rules have been made. */
  revision: number;
}

export type Change = 'began' | 'changed' | 'ended';

/** Ticks of an attack after which it is looked at once more, and then each time so many have gone. */
const FIRST_LOOKS = [2, 3, 4];
const LOOK_EVERY = 4;
/** Rules are left as they are while they match all but this share of what does not look usual. */
const GOOD_ENOUGH = 0.01;
/** Share that new rules have to match more than those that are there. */
const BETTER = 0.005;
const MAX_LIVE = 64;

/** Detector, judgement and synthesis in one: samples in, records of attacks with rules out. */
export class Responder {
  readonly detector: Detector;
  readonly #options: ResponderOptions;
  readonly #told: (record: AttackRecord, change: Change) => void;
  readonly #records = new Map<Attack, AttackRecord>();

  constructor(told: (record: AttackRecord, change: Change) => void, options: ResponderOptions = {}) {
    this.#options = options;
    this.#told = told;
    this.detector = new Detector(
      {
        began: (attack) => this.#began(attack),
        lasts: (attack) => this.#lasts(attack),
        ended: (attack) => this.#ended(attack),
      },
      options,
    );
  }

  /** Of attacks that last. */
  get records(): AttackRecord[] {
    return [...this.#records.values()];
  }

  add(columns: SampleColumns, from = 0, to = columns.count): void {
    this.detector.add(columns, from, to);
  }

  #began(attack: Attack): void {
    if (this.#options.answers?.(attack) === false) return;
    const record: AttackRecord = {
      id: `${Math.floor(attack.began / 1e9).toString(36)}-${attack.number}`,
      kind: KINDS[attack.track.kind].name,
      target: this.#targetOf(attack),
      began: attack.began / 1e9,
      noticed: attack.noticed / 1e9,
      ended: undefined,
      peak: attack.peak,
      usual: attack.usual,
      threshold: attack.threshold,
      packets: attack.packets,
      ...this.#look(attack),
      rules: [],
      uncovered: 1,
      usualShare: 0,
      notes: [],
      revision: 0,
    };
    this.#records.set(attack, record);
    this.#respond(attack, record);
    this.#told(record, 'began');
  }

  #lasts(attack: Attack): void {
    const record = this.#records.get(attack);
    if (record === undefined) return;
    record.peak = attack.peak;
    record.packets = attack.packets;
    if (attack.quietTicks > 0) return;
    if (!FIRST_LOOKS.includes(attack.loudTicks) && attack.loudTicks % LOOK_EVERY !== 0) return;
    const before = record.judgement.attack;
    Object.assign(record, this.#look(attack));
    // Judged benign once it has shown itself: what comes on top is an attack of its own.
    if (before && !record.judgement.attack && record.rules.length === 0) this.#told(record, 'changed');
    if (this.#respond(attack, record)) this.#told(record, 'changed');
  }

  #ended(attack: Attack): void {
    const record = this.#records.get(attack);
    this.#records.delete(attack);
    if (record === undefined) return;
    record.ended = (attack.ended ?? 0) / 1e9;
    record.packets = attack.packets;
    this.#told(record, 'ended');
  }

  #look(attack: Attack): { evidence: Evidence; judgement: Judgement } {
    const rows = attackRows(this.detector, attack);
    const evidence = evidenceOf(this.detector, attack, rows);
    const judgement = judge(attack, evidence);
    attack.benign = !judgement.attack;
    return { evidence, judgement };
  }

  /** Makes rules, unless those that are there do. Whether anything has changed. */
  #respond(attack: Attack, record: AttackRecord): boolean {
    if (!record.judgement.attack) {
      const changed = record.rules.length > 0;
      record.rules = [];
      record.uncovered = 1;
      return changed;
    }
    const rows = attackRows(this.detector, attack);
    if (rows.length === 0) return false;
    if (record.rules.length > 0) {
      record.uncovered = this.#uncovered(record.rules, rows);
      if (record.uncovered <= record.usualShare + GOOD_ENOUGH) return false;
    }
    const proposal = synthesize(this.detector, attack, rows, this.#options);
    // Others that do no better are no reason to change what is in force.
    if (record.rules.length > 0 && proposal.uncovered > record.uncovered - BETTER) return false;
    const live = this.records.reduce((sum, other) => sum + (other === record ? 0 : other.rules.length), 0);
    const room = Math.max(0, (this.#options.maxLive ?? MAX_LIVE) - live);
    if (proposal.rules.length > room) {
      proposal.notes.push(`only ${room} of ${proposal.rules.length} rules: there are too many already`);
      proposal.rules.length = room;
    }
    const same =
      record.rules.map(({ expr }) => expr).join('\n') === proposal.rules.map(({ expr }) => expr).join('\n');
    Object.assign(record, proposal);
    if (same && record.revision > 0) return false;
    record.revision++;
    return true;
  }

  #uncovered(rules: readonly ProposedRule[], rows: readonly number[]): number {
    const set = { columns: this.detector.window.recent, rows };
    const seen = rules.map(({ expr, lang }) => matchedRows(expr, lang, set));
    return rows.filter((_, at) => !seen.some((matched) => matched[at])).length / rows.length;
  }

  #targetOf(attack: Attack): string {
    const { target } = attack.track;
    if (target !== undefined) return prefixText(target);
    const [row] = attackRows(this.detector, attack);
    const name = new QueryName();
    const { recent } = this.detector.window;
    return row !== undefined && name.read(recent, row) ? name.text(recent.frames) : '';
  }
}
