import { existsSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { asSluiceError, SluiceError } from '../base/errors.ts';
import { compileFilterText } from '../filter/index.ts';
import { BpfMap, NicRules } from '../kernel/index.ts';
import { type AppliedRules, LiveRules, RULE_COUNTS } from '../rules/live-rules.ts';
import type { TakenSet } from '../rules/program-maker.ts';
import { NO_COUNTS, readCounts } from '../rules/rows.ts';
import {
  actionText,
  inScope,
  type Node,
  parseRule,
  RULE_LIMITS,
  type Rule,
  type RuleScope,
} from '../rules/spec.ts';
import { expressionHash, type ProgramSet } from '../rules/taken/program-set.ts';
import { monotonicSeconds } from './clock.ts';
import type { Place } from './control-places.ts';
import type { RequestOf, RuleRow, RulesAdded } from './control-protocol.ts';
import type { Gate } from './gate.ts';
import { SlPacket } from './layout.gen.ts';
import { NicOffload } from './nic-offload.ts';
import { pinPath } from './pins.ts';
import { readRules, removeRules, type SavedRules, writeRules } from './rule-file.ts';

type Rules = ReadonlyMap<string, Rule>;

/** A wish of somebody: the rules as they shall be, made of those that are there. */
interface Change {
  readonly make: (rules: Rules) => Map<string, Rule>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** What a daemon that has ended left of its rules. */
export interface LeftRules {
  readonly saved: SavedRules;
  /** Counts of the programs that still run. */
  readonly counts: BpfMap | undefined;
}

/** Not among the tables of the gate, which are all its own. */
const besidePin = ({ name }: Place, map: string): string => join(dirname(pinPath(name)), map);
const countsPin = (place: Place): string => besidePin(place, RULE_COUNTS);
/** Where samples come out, for one reader. */
export const samplesPin = (place: Place): string => besidePin(place, 'rule_samples');

/** What is there for the daemon to go on with. */
export function leftRules(place: Place): LeftRules | undefined {
  const saved = readRules(place.rules);
  if (saved === undefined) return undefined;
  const pin = countsPin(place);
  return { saved, counts: existsSync(pin) ? BpfMap.openPinned(pin) : undefined };
}

export interface RuleKeeperOptions {
  readonly gate: Gate;
  readonly place: Place;
  readonly grace: () => Promise<void>;
  /** For the scopes of rules. */
  readonly site?: string | undefined;
  readonly roles?: readonly string[] | undefined;
  readonly warn: (text: string) => void;
  /** The file of the rules outlives this process, and who is put into force after a restart comes from it. */
  readonly store?: boolean;
}

/** Takes out of the NIC what a daemon that has ended left there: the gate goes down without another one. */
export function removeLeftNicRules(place: Place, warn: (text: string) => void): void {
  const saved = readRules(place.rules);
  if (saved !== undefined) new NicOffload(new NicRules(place.ifname), warn).adopt(saved.nic, []);
}

/** The mitigation rules of one gate, as its daemon keeps them. Nothing is loaded before the first of them. */
export class RuleKeeper {
  readonly #gate: Gate;
  readonly #place: Place;
  readonly #grace: () => Promise<void>;
  readonly #node: Node;
  #rules: Rules = new Map();
  #live: LiveRules | undefined;
  #maps: BpfMap[] = [];
  #applied: AppliedRules | null = null;
  readonly #nic: NicOffload;
  readonly #store: boolean;
  #taken: { set: TakenSet; rules: ProgramSet['rules'] } | undefined;
  #changes: Change[] = [];
  #working: Promise<void> | undefined;

  constructor(options: RuleKeeperOptions) {
    const { gate, place, grace, site, roles = [], warn, store = false } = options;
    this.#store = store;
    this.#gate = gate;
    this.#place = place;
    this.#grace = grace;
    this.#node = {
      name: hostname(),
      interface: place.ifname,
      roles,
      ...(site === undefined ? {} : { site }),
    };
    this.#nic = new NicOffload(new NicRules(place.ifname), warn);
  }

  get size(): number {
    return this.#rules.size;
  }

  has(id: string): boolean {
    return this.#rules.has(id);
  }

  ids(): string[] {
    return [...this.#rules.keys()];
  }

  /** Whether rules with this scope hold at this gate. */
  holdsHere(scope: RuleScope): boolean {
    return inScope(scope, this.#node);
  }

  /** Goes on with the rules of a daemon that has ended; their counts go on, too. */
  async takeOver({ saved, counts }: LeftRules): Promise<void> {
    this.#nic.adopt(saved.nic, saved.rules);
    try {
      await this.#change(() => new Map(saved.rules.map((rule) => [rule.id, rule])));
      for (const { id, row, before } of saved.rows) {
        this.#live?.inherit(id, before);
        if (counts !== undefined) this.#live?.inherit(id, readCounts(counts, row));
      }
      this.#save();
    } catch (error) {
      this.#nic.close();
      throw error;
    } finally {
      counts?.close();
    }
  }

  /** @throws SluiceError USAGE, FILTER_INVALID, EXISTS, LIMIT, RULE, FILTER_UNSUPPORTED */
  async add(request: RequestOf<'rule.add'>): Promise<RulesAdded> {
    const rules = request.rules.map(parseRule);
    // What a desk has compiled is not compiled here to be looked at.
    for (const rule of rules)
      if (this.#taken?.rules.get(rule.id)?.hash !== expressionHash(rule))
        compileFilterText(rule.expr, rule.lang);
    await this.#change((there) => {
      const next = new Map(there);
      for (const rule of rules) {
        if (next.has(rule.id) && !request.replace)
          throw new SluiceError('EXISTS', `there is a rule ${rule.id} already`, {
            help: '--replace changes it',
          });
        next.set(rule.id, rule);
      }
      if (next.size > RULE_LIMITS.rules)
        throw new SluiceError('LIMIT', `there is room for ${RULE_LIMITS.rules} rules`);
      return next;
    });
    return {
      added: rules.map(({ id }) => id),
      programs: this.#applied,
      offload: rules.flatMap(({ id }) => {
        const state = this.#nic.state(id);
        return state === undefined ? [] : [{ id, ...state }];
      }),
    };
  }

  /**
   * From now on rules that are in these programs are not compiled here; those that are in force are exchanged.
   * @param rules of the set, by id @throws SluiceError as add
   */
  async take(set: TakenSet, rules: ProgramSet['rules']): Promise<void> {
    this.#taken = { set, rules };
    this.#live?.take(set);
    await this.#change((there) => new Map(there));
  }

  /** Rules in force that a desk has compiled, that this gate has, and why it has all of them itself although there was a set. */
  made(): { taken: number; here: number; whyNot: string | null } {
    const taken = this.#applied?.taken ?? 0;
    return { taken, here: this.#rules.size - taken, whyNot: this.#applied?.whyNot ?? null };
  }

  /** The last counts of those that are removed. @throws SluiceError NOT_FOUND */
  async remove({ ids }: RequestOf<'rule.remove'>): Promise<{ removed: RuleRow[] }> {
    const removed: RuleRow[] = [];
    await this.#change((there) => {
      const next = new Map(there);
      for (const id of ids) {
        if (!next.delete(id)) throw new SluiceError('NOT_FOUND', `there is no rule ${id}`);
        removed.push(this.#row(there.get(id) as Rule));
      }
      return next;
    });
    return { removed };
  }

  /** Off works from this packet to the next; the programs without the rule follow. @throws SluiceError NOT_FOUND */
  async switch({ ids, on }: RequestOf<'rule.switch'>): Promise<{ switched: string[] }> {
    for (const id of ids)
      if (!this.#rules.has(id)) throw new SluiceError('NOT_FOUND', `there is no rule ${id}`);
    if (!on)
      for (const id of ids) {
        this.#live?.setOff(id, true);
        this.#nic.take(id);
      }
    await this.#change((there) => {
      const next = new Map(there);
      for (const id of ids) {
        const rule = next.get(id);
        if (rule === undefined) throw new SluiceError('NOT_FOUND', `there is no rule ${id}`);
        next.set(id, { ...rule, enabled: on });
      }
      return next;
    });
    if (on) for (const id of ids) this.#live?.setOff(id, false);
    return { switched: ids };
  }

  rows(): RuleRow[] {
    return [...this.#rules.values()].map((rule) => this.#row(rule));
  }

  /** Removes rules whose time is over; the kernel has let them lie since that time. Answers what they were. */
  async expire(): Promise<RuleRow[]> {
    const now = Date.now() / 1000;
    const over = [...this.#rules.values()].filter(({ expires }) => expires !== null && expires <= now);
    if (over.length === 0) return [];
    for (const { id } of over) this.#nic.take(id);
    const { removed } = await this.remove({ ids: over.map(({ id }) => id) });
    return removed;
  }

  #row(rule: Rule): RuleRow {
    const { id, expr, lang, action, priority, scope, enabled, expires, note } = rule;
    const { matched, dropped } = this.#live?.counts(id) ?? NO_COUNTS;
    return {
      id,
      expr,
      lang,
      action: actionText(action),
      priority,
      scope,
      inScope: inScope(scope, this.#node),
      enabled,
      expires,
      note,
      number: this.#live?.numberOf(id) ?? null,
      matched,
      dropped,
      offload: this.#nic.state(id) ?? null,
    };
  }

  /** Changes that come while others are being made live go live together. */
  #change(make: Change['make']): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#changes.push({ make, resolve, reject });
      this.#working ??= this.#work();
    });
  }

  async #work(): Promise<void> {
    while (this.#changes.length > 0) {
      const changes = this.#changes;
      this.#changes = [];
      if (await this.#together(changes)) continue;
      // One of them is at fault: the others need not wait for it.
      for (const change of changes) await this.#together([change], true);
    }
    // At once: what comes from now on has to begin anew.
    this.#working = undefined;
  }

  /** False when they fail and there are several. */
  async #together(changes: readonly Change[], last = changes.length === 1): Promise<boolean> {
    let next: Rules = this.#rules;
    const done: Change[] = [];
    for (const change of changes) {
      try {
        next = change.make(next);
        done.push(change);
      } catch (error) {
        if (!last) return false;
        change.reject(error);
      }
    }
    if (done.length === 0) return true;
    try {
      await this.#apply(next);
    } catch (error) {
      if (!last) return false;
      for (const { reject } of done) reject(asSluiceError(error));
      return true;
    }
    for (const { resolve } of done) resolve();
    return true;
  }

  async #apply(next: Rules): Promise<void> {
    if (next.size === 0 && this.#live === undefined) return;
    this.#live ??= this.#open();
    const placed = [...next.values()].map((rule) => ({
      rule,
      on: rule.enabled && inScope(rule.scope, this.#node),
    }));
    this.#applied = await this.#live.apply(placed);
    this.#rules = next;
    await this.#nic.place(placed);
    this.#save();
  }

  #open(): LiveRules {
    // Handles of our own: those of the gate change with the sizes of its tables.
    const [rules, scratch] = ['rules', 'scratch'].map((name) => this.#gate.table(name).duplicate());
    this.#maps = [rules, scratch];
    const live = new LiveRules({
      rules,
      scratch,
      enter: (program) => this.#gate.setRules(program),
      frameLength: SlPacket.members.frame_len,
      frags: this.#gate.frags,
      now: monotonicSeconds,
      grace: this.#grace,
    });
    if (this.#taken !== undefined) live.take(this.#taken.set);
    // In the place of that of a daemon that has ended, which whoever takes over has open.
    for (const [pin, map] of [
      [countsPin(this.#place), live.legacy.counts],
      [samplesPin(this.#place), live.samples],
    ] as const) {
      rmSync(pin, { force: true });
      map.pin(pin);
    }
    return live;
  }

  /** For the daemon after a sudden end of this one. */
  #save(): void {
    if (this.#rules.size === 0) removeRules(this.#place.rules);
    else
      writeRules(this.#place.rules, {
        version: 1,
        rules: [...this.#rules.values()],
        rows: this.#live?.legacy.rules ?? [],
        nic: this.#nic.legacy,
      });
  }

  /** For who comes after an orderly end: the counts are in the file, and the NIC has no rules any more. */
  #keep(): void {
    const rules = [...this.#rules.values()];
    const rows = rules.map(({ id }) => ({ id, row: 0, before: this.#live?.counts(id) ?? NO_COUNTS }));
    writeRules(this.#place.rules, { version: 1, rules, rows, nic: [] });
  }

  /** Takes the rules out of the gate. */
  async close(): Promise<void> {
    await this.#working;
    this.#nic.close();
    if (this.#store && this.#rules.size > 0) this.#keep();
    await this.#live?.close();
    for (const pin of [countsPin(this.#place), samplesPin(this.#place)]) rmSync(pin, { force: true });
    for (const map of this.#maps) map.close();
  }
}
