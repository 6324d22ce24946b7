import { SluiceError } from '../base/errors.ts';
import { canonicalJson } from './canonical.ts';
import type { EdgeResult } from './nats-desk.ts';
import { readStatement, type Statement, type StatementInput } from './statement.ts';

/** A rule that is tried at some sites, and the same for all that it is meant for: the revision behind it. */
export interface Staged {
  readonly id: string;
  readonly revision: number;
  readonly sites: readonly string[];
  /** Lines, as signed. */
  readonly canary: string;
  readonly whole: string;
}

/** What is to be signed for these sites first; the next revision is for all that the rule is meant for. @throws SluiceError USAGE */
export function canaryOf(input: StatementInput, sites: readonly string[]): StatementInput {
  const { id, rule } = input;
  const among = rule?.scope?.sites;
  const stranger = sites.find((site) => among?.includes(site) === false);
  if (stranger !== undefined)
    throw new SluiceError('USAGE', `rule ${id} is not for site ${stranger}, so it cannot be tried there`);
  if (rule === null || new Set(sites).size === new Set(among).size)
    throw new SluiceError('USAGE', `rule ${id}: no sites are left for after ${sites.join(', ')}`);
  return { ...input, rule: { ...rule, scope: { ...rule.scope, sites: [...new Set(sites)] } } };
}

/** All that a statement says but for its revision and sites. */
function bodyOf(statement: Statement): string {
  const { revision: _revision, rule, ...about } = statement;
  if (rule === null) return canonicalJson(about);
  const { sites: _sites, ...scope } = rule.scope;
  return canonicalJson({ ...about, rule: { ...rule, scope } });
}

function isCanaryOf(one: Statement, next: Statement): boolean {
  const first = one.rule?.scope.sites;
  const all = next.rule?.scope.sites;
  if (one.id !== next.id || one.revision + 1 !== next.revision) return false;
  if (first === undefined || next.rule === null || bodyOf(one) !== bodyOf(next)) return false;
  return all === undefined || (all.length > first.length && first.every((site) => all.includes(site)));
}

/** Which of these lines are canaries of which, as `sluice rule sign --canary` makes them; `plain` are the others. */
export function stagesOf(lines: readonly string[]): { staged: Staged[]; plain: string[] } {
  const staged: Staged[] = [];
  const plain: string[] = [];
  for (let at = 0; at < lines.length; at++) {
    const one = readStatement(lines[at]);
    const next = at + 1 < lines.length ? readStatement(lines[at + 1]) : undefined;
    if (one === undefined || next === undefined || !isCanaryOf(one, next)) {
      plain.push(lines[at]);
      continue;
    }
    const sites = one.rule?.scope.sites ?? [];
    staged.push({ id: one.id, revision: one.revision, sites, canary: lines[at], whole: lines[++at] });
  }
  return { staged, plain };
}

/** An edge that a canary is for, and what it says of it. */
export interface CanaryEdge {
  node: string;
  interface: string;
  site: string;
  state: EdgeResult['rules'][number]['state'];
  why: string | null;
  /** Packets since it came into force there, that the gate saw and that the rule dropped; null: the edge does not tell. */
  seen: number | null;
  dropped: number;
}

/** Packets: of fewer no share is made. */
const LEAST_SEEN = 1000;

const nameOf = ({ node, interface: ifname, site }: CanaryEdge): string => `${node} ${ifname} (${site})`;

/** A canary while it is tried: what its edges say, and whether it may go on. */
export class CanaryTrial {
  readonly staged: Staged;
  readonly #mostDropped: number | undefined;
  readonly #edges = new Map<string, { edge: CanaryEdge; seen: number | null; dropped: number }>();
  /** By site: what an edge there has refused as a line. */
  readonly #refused = new Map<string, string>();

  /** @param mostDropped share of the packets at any of its edges, 0 to 1 */
  constructor(staged: Staged, mostDropped?: number) {
    this.staged = staged;
    this.#mostDropped = mostDropped;
  }

  /** Takes what an edge says. Answers what it is told of for the first time. */
  look({ node, interface: ifname, site, rules, refused, seen }: EdgeResult): CanaryEdge | undefined {
    const { id, revision, sites } = this.staged;
    if (site === null || !sites.includes(site)) return undefined;
    const line = refused.find((each) => each.id === id && each.refused !== 'older');
    if (line !== undefined) this.#refused.set(site, `${line.refused}: ${line.why}`);
    const row = rules.find((each) => each.id === id && each.revision === revision);
    if (row === undefined || row.state === 'not for here') return undefined;
    const { state, why, dropped } = row;
    const name = `${node} ${ifname}`;
    const known = this.#edges.get(name);
    // Counts go on from the revision before.
    const live = known?.edge.state === 'in force' ? known : undefined;
    const from = {
      seen: live === undefined ? (seen?.pkts ?? null) : live.seen,
      dropped: live?.dropped ?? dropped.pkts,
    };
    const edge: CanaryEdge = {
      node,
      interface: ifname,
      site,
      state,
      why,
      seen: seen === null || from.seen === null ? null : Math.max(0, seen.pkts - from.seen),
      dropped: Math.max(0, dropped.pkts - from.dropped),
    };
    this.#edges.set(name, { edge, ...from });
    return known?.edge.state === state ? undefined : edge;
  }

  get edges(): CanaryEdge[] {
    return [...this.#edges.values()].map(({ edge }) => edge);
  }

  /** Why it must not go on, whatever else comes; undefined: nothing says so. */
  get bad(): string | undefined {
    for (const edge of this.edges) {
      const { state, why, seen, dropped } = edge;
      if (state === 'refused') return `refused at ${nameOf(edge)}: ${why}`;
      if (state === 'removed here') return `somebody has taken it out at ${nameOf(edge)}`;
      if (this.#mostDropped === undefined || seen === null || seen < LEAST_SEEN) continue;
      if (dropped > this.#mostDropped * seen)
        return `it drops ${((100 * dropped) / seen).toFixed(1)} % of what comes at ${nameOf(edge)}`;
    }
    return undefined;
  }

  /** The same when its time is over: then it has to be in force at each of its sites. */
  get badInTheEnd(): string | undefined {
    if (this.bad !== undefined) return this.bad;
    const late = this.edges.find(({ state }) => state !== 'in force');
    if (late !== undefined) return `not in force at ${nameOf(late)}`;
    const missing = this.staged.sites.find((site) => !this.edges.some((edge) => edge.site === site));
    if (missing !== undefined)
      return `no edge of site ${missing} has it${this.#refused.has(missing) ? ` (${this.#refused.get(missing)})` : ''}`;
    const silent = this.edges.find(({ seen }) => seen === null);
    if (this.#mostDropped !== undefined && silent !== undefined)
      return `${nameOf(silent)} does not tell how much comes there`;
    return undefined;
  }
}
