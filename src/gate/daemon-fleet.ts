import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { asSluiceError, type ErrorCode } from '../base/errors.ts';
import { Follower, type SourceStatus } from '../fleet/follower.ts';
import { keysById, readTrustedKeys, type TrustedKeys } from '../fleet/keys.ts';
import type { NatsAccess } from '../fleet/nats-access.ts';
import type { EdgeResult } from '../fleet/nats-desk.ts';
import { keyOf } from '../fleet/nats-source.ts';
import { openSource } from '../fleet/open-source.ts';
import type { Entry } from '../fleet/rule-book.ts';
import type { RuleSource } from '../fleet/source.ts';
import { FLEET_PREFIX, ruleOf } from '../fleet/statement.ts';
import { NO_COUNTS } from '../rules/rows.ts';
import type { Rule } from '../rules/spec.ts';
import type { Place } from './control-places.ts';
import type { AuditLog } from './daemon-audit.ts';
import { type ProgramsHere, ProgramTaker } from './daemon-programs.ts';
import type { RuleKeeper } from './daemon-rules.ts';

export interface FleetOptions {
  /** As checkSource answers it. */
  source: string;
  /** Files of trusted keys, absolute. */
  trust: string[];
  /** Files of keys whose compiled programs are taken; none: all is compiled here. */
  programs: string[];
  /** Absolute. */
  store: string;
  /** Seconds. */
  every?: number;
  /** To a server of NATS. */
  nats: NatsAccess;
}

/** Of `gate status`. */
export interface FleetStatus extends SourceStatus {
  inForce: number;
  /** Rules that this gate refuses, and why: the last of them. */
  bad: { id: string; revision: number; why: string }[];
  /** Whose programs this gate runs; null: nobody's but its own (no --trust-programs). */
  programs: ProgramsHere | null;
}

/** What it needs of a gate's rules; a lab has tables of its own. */
export type RuleTable = Pick<
  RuleKeeper,
  'has' | 'ids' | 'add' | 'remove' | 'rows' | 'holdsHere' | 'take' | 'made'
>;

export interface FleetParts {
  rules: RuleTable;
  place: Pick<Place, 'ifname'>;
  audit: Pick<AuditLog, 'write'>;
  /** Name in reports; default: the host's. */
  node?: string;
  site: string | undefined;
  /** All that has come to the gate so far; absent: nobody counts. */
  seen?: () => { pkts: number; bytes: number };
  roles: readonly string[];
  warn: (text: string) => void;
}

const keysOf = (paths: readonly string[]): TrustedKeys =>
  keysById(paths.flatMap((path) => readTrustedKeys(readFileSync(path, 'utf8'), path)));

const CHECK_MS = 1000;
/** Bad rules in the status, rules in a report (which NATS takes up to 1 MiB), characters of a reason. */
const NAMED = 32;
const REPORTED = 4096;
const REASON = 200;
/** Reports of what has not changed but for counts, and what was heard last. */
const REPORT_CHECKS = 10;
/** Until a rule is tried again that is not at fault itself. */
const RETRY_MS = 5000;
/** The rule is at fault: it is not tried again. */
const AT_FAULT: ReadonlySet<ErrorCode> = new Set([
  'RULE',
  'FILTER_INVALID',
  'FILTER_UNSUPPORTED',
  'USAGE',
  'VERIFIER',
]);

/** Keeps signed rules of a source in force. */
export class FleetKeeper {
  readonly #rules: RuleTable;
  readonly #audit: FleetParts['audit'];
  readonly #warn: (text: string) => void;
  readonly #source: RuleSource;
  readonly #follower: Follower;
  readonly #programs: ProgramTaker | undefined;
  readonly #seen: FleetParts['seen'];
  readonly #about: Pick<EdgeResult, 'node' | 'interface' | 'site' | 'roles'>;
  /** By id: the revision that is in force. */
  readonly #live = new Map<string, number>();
  /** By id: a revision that this gate refuses. */
  readonly #bad = new Map<string, { revision: number; why: string }>();
  /** By id: a revision that somebody has taken out here. */
  readonly #taken = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;
  #working: Promise<void> | undefined;
  #wanted = false;
  #retry = Number.POSITIVE_INFINITY;
  #checks = 0;
  #closed = false;

  /** @throws SluiceError FILE_FORMAT, USAGE; NodeJS.ErrnoException for files */
  constructor(options: FleetOptions, parts: FleetParts) {
    const { rules, place, audit, node = hostname(), warn, site, roles, seen } = parts;
    this.#seen = seen;
    this.#rules = rules;
    this.#audit = audit;
    this.#warn = warn;
    this.#about = { node, interface: place.ifname, site: site ?? null, roles: [...roles] };
    const edge = `${keyOf(node)}.${keyOf(place.ifname)}`;
    this.#source = openSource(options.source, edge, options.nats, options.every, options.programs.length > 0);
    if (options.programs.length > 0)
      this.#programs = new ProgramTaker(keysOf(options.programs), {
        rules,
        taken: (signed, keyName) => {
          audit.write({
            op: 'fleet.programs',
            key: signed.program,
            why: `revision ${signed.revision}, key ${keyName}`,
          });
          this.#report();
        },
        failed: (error) => this.#later(error),
      });
    this.#follower = new Follower({
      source: this.#source,
      keys: keysOf(options.trust),
      store: options.store,
      warn,
      accepted: (entries) => {
        for (const { statement, keyName } of entries)
          this.#note(statement.rule === null ? 'withdrawn' : 'accepted', statement, keyName);
        this.#sync();
      },
      programs: this.#programs === undefined ? undefined : (text) => this.#programs?.offer(text),
      refused: ({ where, id, refused, why }) => {
        // Of a document that is only added to, older ones stay in it.
        if (refused === 'older') return;
        this.#audit.write({ op: 'fleet.refused', key: id ?? where, reason: refused, why });
        this.#warn(`${where}: rule ${id ?? '(nameless)'} does not count: ${why}`);
      },
    });
    this.#timer = setInterval(() => this.#check(), CHECK_MS);
    this.#sync();
    this.#follower.start();
  }

  #note(what: string, { id, revision, author }: Entry['statement'], keyName: string): void {
    this.#audit.write({
      op: `fleet.${what}`,
      key: id,
      why: `revision ${revision} by ${author}, key ${keyName}`,
    });
  }

  #check(): void {
    this.#checks++;
    if (this.#checks % 60 === 0) this.#follower.save();
    if (this.#checks % REPORT_CHECKS === 0) this.#report();
    if (
      performance.now() > this.#retry ||
      [...this.#live.keys()].some((id) => !this.#rules.has(FLEET_PREFIX + id))
    )
      this.#sync();
  }

  /** Makes the gate's rules what they shall be; one change after the other. */
  #sync(): void {
    this.#wanted = true;
    if (this.#closed) return;
    this.#working ??= this.#work();
  }

  async #work(): Promise<void> {
    while (this.#wanted && !this.#closed) {
      this.#wanted = false;
      this.#retry = Number.POSITIVE_INFINITY;
      try {
        await this.#change();
      } catch (error) {
        this.#later(error);
      }
      this.#report();
    }
    // At once: what is wanted from now on has to begin anew.
    this.#working = undefined;
  }

  #later(error: unknown): void {
    this.#retry = performance.now() + RETRY_MS;
    this.#warn(`rules of ${this.#source.name} are not all in force: ${asSluiceError(error).message}`);
  }

  async #change(): Promise<void> {
    const entries = this.#follower.entries();
    const now = Date.now() / 1000;
    const known = new Map(entries.map((entry) => [entry.statement.id, entry]));
    for (const [id, revision] of this.#live) {
      if (this.#rules.has(FLEET_PREFIX + id)) continue;
      this.#live.delete(id);
      const statement = known.get(id)?.statement;
      if (statement?.revision === revision && statement.expires > now) this.#taken.set(id, revision);
    }
    const fresh: Entry[] = [];
    for (const entry of entries) {
      const { id, revision, rule } = entry.statement;
      if (rule === null || !this.#rules.holdsHere(rule.scope)) known.delete(id);
      else if (
        this.#live.get(id) !== revision &&
        this.#bad.get(id)?.revision !== revision &&
        this.#taken.get(id) !== revision
      )
        fresh.push(entry);
    }
    for (const map of [this.#bad, this.#taken])
      for (const id of map.keys()) if (!known.has(id)) map.delete(id);
    const over = this.#rules
      .ids()
      .filter((name) => name.startsWith(FLEET_PREFIX) && !known.has(name.slice(FLEET_PREFIX.length)));
    if (over.length > 0) {
      await this.#rules.remove({ ids: over });
      for (const name of over) this.#live.delete(name.slice(FLEET_PREFIX.length));
    }
    await this.#add(fresh);
  }

  /** Those at fault are found by halves; the others come into force. */
  async #add(entries: readonly Entry[]): Promise<void> {
    if (entries.length === 0 || this.#closed) return;
    try {
      const rules = entries.map(({ statement }) => ruleOf(statement) as Rule);
      await this.#rules.add({ rules, replace: true });
    } catch (thrown) {
      const error = asSluiceError(thrown);
      if (!AT_FAULT.has(error.code)) {
        this.#later(error);
        return;
      }
      if (entries.length > 1) {
        const half = entries.length >> 1;
        await this.#add(entries.slice(0, half));
        await this.#add(entries.slice(half));
        return;
      }
      const [{ statement }] = entries;
      const why = error.message.slice(0, REASON);
      this.#bad.set(statement.id, { revision: statement.revision, why });
      this.#audit.write({ op: 'fleet.bad', key: statement.id, refused: error.code, why: error.message });
      this.#warn(`rule ${statement.id} of ${this.#source.name} is not in force: ${error.message}`);
      return;
    }
    for (const { statement, keyName } of entries) {
      this.#live.set(statement.id, statement.revision);
      this.#bad.delete(statement.id);
      this.#taken.delete(statement.id);
      this.#note('live', statement, keyName);
    }
  }

  #report(): void {
    if (this.#source.report === undefined) return;
    const rows = new Map(this.#rules.rows().map((row) => [row.id, row]));
    const all = this.#follower.entries().map(({ statement }) => {
      const { matched, dropped } = rows.get(FLEET_PREFIX + statement.id) ?? NO_COUNTS;
      return { id: statement.id, revision: statement.revision, ...this.#state(statement), matched, dropped };
    });
    // Those that somebody has to look at come first.
    const rank = ({ state }: (typeof all)[number]): number =>
      ['refused', 'removed here', 'waiting', 'in force', 'not for here'].indexOf(state);
    const report: EdgeResult = {
      ...this.#about,
      ts: Date.now() / 1000,
      seen: this.#seen?.() ?? null,
      rules: all.sort((one, other) => rank(one) - rank(other)).slice(0, REPORTED),
      refused: this.#follower.status().lines,
      programs: this.#programs?.status() ?? null,
    };
    this.#source.report(JSON.stringify(report));
  }

  #state({ id, revision, rule }: Entry['statement']): Pick<EdgeResult['rules'][number], 'state' | 'why'> {
    const bad = this.#bad.get(id);
    if (bad?.revision === revision) return { state: 'refused', why: bad.why };
    if (this.#live.get(id) === revision) return { state: 'in force', why: null };
    if (this.#taken.get(id) === revision) return { state: 'removed here', why: null };
    const here = rule !== null && this.#rules.holdsHere(rule.scope);
    return { state: here ? 'waiting' : 'not for here', why: null };
  }

  status(): FleetStatus {
    return {
      ...this.#follower.status(),
      inForce: this.#live.size,
      programs: this.#programs?.status() ?? null,
      bad: [...this.#bad].slice(-NAMED).map(([id, { revision, why }]) => ({ id, revision, why })),
    };
  }

  /** Ends it; its rules stay until the gate goes down. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#follower.close();
    await this.#working;
  }
}
