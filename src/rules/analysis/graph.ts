import type { Alternative, Pin } from './alternatives.ts';
import type { Facts, Term } from './term.ts';

/**
 * The merged decision graph: what many rules ask of a packet is asked once. A node is a row of switches over a field
 * and then a row of candidates; each switch leads to at most one further node, and then goes on with the next.
 */
export interface GraphNode {
  readonly switches: readonly Switch[];
  readonly candidates: readonly Candidate[];
}

export interface Switch {
  readonly term: Term;
  /** By the value of the term. */
  readonly cases: ReadonlyMap<number, GraphNode>;
}

/** A rule whose expression has still to be run, and what is known of each packet that gets there. */
export interface Candidate {
  /** Index into the rules that the graph was built of. */
  readonly rule: number;
  readonly facts: Facts;
}

interface Item {
  rule: number;
  pins: Alternative;
}

/** Fewer candidates than this are run one after the other: a switch would cost as much. */
const WORTH_A_SWITCH = 4;

/** Rules by index, each with its alternatives; undefined: nothing is known of it, it is a candidate for every packet. */
export function buildGraph(rules: readonly (readonly Alternative[] | undefined)[]): GraphNode {
  const always: Candidate[] = [];
  const items: Item[] = [];
  for (const [rule, ways] of rules.entries()) {
    if (ways === undefined) always.push({ rule, facts: new Map() });
    else for (const pins of ways) items.push({ rule, pins });
  }
  const { switches, candidates } = node(items, new Map());
  return { switches, candidates: [...candidates, ...always] };
}

function node(items: readonly Item[], facts: Facts): GraphNode {
  const switches: Switch[] = [];
  let rest = items;
  while (distinct(rest) >= WORTH_A_SWITCH) {
    const pin = best(rest, facts);
    if (pin === undefined) break;
    const { key } = pin.term;
    const groups = new Map<number, Item[]>();
    const others: Item[] = [];
    for (const item of rest) {
      const value = item.pins.get(key)?.value;
      if (value === undefined) others.push(item);
      else {
        const group = groups.get(value);
        if (group === undefined) groups.set(value, [item]);
        else group.push(item);
      }
    }
    const cases = new Map<number, GraphNode>();
    for (const [value, group] of groups) cases.set(value, node(group, new Map(facts).set(key, value)));
    switches.push({ term: pin.term, cases });
    rest = others;
  }
  const candidates = [...new Set(rest.map(({ rule }) => rule))].map((rule) => ({ rule, facts }));
  return { switches, candidates };
}

const distinct = (items: readonly Item[]): number => new Set(items.map(({ rule }) => rule)).size;

/** Where a switch can look: a field of the packet, or bits of one. */
export function switchable(term: Term): boolean {
  if (term.kind === 'alu') {
    return (term.op === '&' || term.op === '|') && term.right.kind === 'const' && switchable(term.left);
  }
  return term.kind === 'load' && (term.base === undefined || isHeaderLength(term.base));
}

/** 4 * (b[n] & 15): the length of an IPv4 header. */
export function isHeaderLength(term: Term): boolean {
  return /^\(\(b\[\d+\]&#15\)\*#4\)$/.test(term.key);
}

/** The field that leaves the fewest candidates on average: it is pinned by many, to many values. */
function best(items: readonly Item[], facts: Facts): Pin | undefined {
  const fields = new Map<string, { pin: Pin; rules: number; values: Set<number> }>();
  for (const { pins } of items) {
    for (const [key, pin] of pins) {
      if (facts.has(key)) continue;
      const field = fields.get(key);
      if (field === undefined) {
        if (switchable(pin.term)) fields.set(key, { pin, rules: 1, values: new Set([pin.value]) });
      } else {
        field.rules++;
        field.values.add(pin.value);
      }
    }
  }
  let most = 0;
  let found: Pin | undefined;
  for (const { pin, rules, values } of fields.values()) {
    if (rules < WORTH_A_SWITCH) continue;
    const gain = rules - rules / values.size;
    if (gain > most) [most, found] = [gain, pin];
  }
  return found;
}
