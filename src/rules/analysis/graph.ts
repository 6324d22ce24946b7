import type { CbpfProgram } from '../../ebpf/index.ts';
import { type Alternative, alternatives, type Pin } from './alternatives.ts';
import { groupByPrefix } from './prefix.ts';
import type { Facts, Term } from './term.ts';

/**
 * The merged decision graph: what many rules ask of a packet is asked once. A node is a row of switches over a field
 * and then a row of candidates; each switch leads to at most one further node, and then goes on with the next.
 */
export interface GraphNode {
  readonly switches: readonly Switch[];
  readonly candidates: readonly Candidate[];
  /** Of the whole graph only: rules that begin alike. */
  readonly prefixes: readonly Prefix[];
}

/** A beginning that rules share, and what is left of them: over the packet from the place on that it finds. */
export interface Prefix {
  readonly program: CbpfProgram;
  readonly node: GraphNode;
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
  /** The rule's expression, or what a prefix has left of it. */
  readonly program: CbpfProgram;
  readonly facts: Facts;
}

interface Item {
  readonly rule: number;
  readonly program: CbpfProgram;
  readonly pins: Alternative;
}

type Numbered = Pick<Item, 'rule' | 'program'>;

/** With more ways to a match than this a rule would stand in too many places: better to share its beginning. */
const FEW_WAYS = { alternatives: 8, steps: 1024 } as const;

/** Fewer candidates than this are run one after the other: a switch would cost as much. */
const WORTH_A_SWITCH = 4;

/** Rules by index. `chain`: nothing is shared, each is a candidate for every packet. */
export function buildGraph(programs: readonly CbpfProgram[], chain = false): GraphNode {
  const rules = programs.map((program, rule) => ({ rule, program }));
  if (chain) return { switches: [], candidates: rules.map(always), prefixes: [] };
  const simple: Item[] = [];
  const others: Numbered[] = [];
  for (const one of rules) {
    const ways = alternatives(one.program, FEW_WAYS);
    if (ways === undefined) others.push(one);
    else simple.push(...ways.map((pins) => ({ ...one, pins })));
  }
  const { groups, rest } = groupByPrefix(others);
  const lone = rest.map((rule) => rules[rule]);
  return {
    ...withAlways([...simple, ...lone.flatMap(itemsOf)], lone.filter(isOpen)),
    prefixes: groups.map(({ prefix, members }) => {
      const inner = members.map(({ rule, remainder }) => ({ rule, program: remainder }));
      return { program: prefix, node: withAlways(inner.flatMap(itemsOf), inner.filter(isOpen)) };
    }),
  };
}

const always = ({ rule, program }: Numbered): Candidate => ({ rule, program, facts: new Map() });

const itemsOf = (one: Numbered): Item[] =>
  (alternatives(one.program) ?? []).map((pins) => ({ ...one, pins }));

/** Nothing is known of what it matches. */
const isOpen = (one: Numbered): boolean => alternatives(one.program) === undefined;

function withAlways(items: readonly Item[], open: readonly Numbered[]): GraphNode {
  const { switches, candidates } = node(items, new Map());
  return { switches, candidates: [...candidates, ...open.map(always)], prefixes: [] };
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
  const last = new Map(rest.map((item) => [item.rule, item]));
  const candidates = [...last.values()].map(({ rule, program }) => ({ rule, program, facts }));
  return { switches, candidates, prefixes: [] };
}

const distinct = (items: readonly Item[]): number => new Set(items.map(({ rule }) => rule)).size;

/** Farthest place that a switch looks at: a bounds check of the verifier reaches it, and so does one load. */
export const FARTHEST_FIELD = 0x3fff;

/** Where a switch can look: a field of the packet, or bits of one, at a place that is fixed or computed of another field. */
export function switchable(term: Term): boolean {
  if (term.kind === 'alu') {
    return (term.op === '&' || term.op === '|') && term.right.kind === 'const' && switchable(term.left);
  }
  return (
    term.kind === 'load' && term.offset < FARTHEST_FIELD && (term.base === undefined || isOffset(term.base))
  );
}

/** A number made of one field by constants, as the length of an IPv4 header is: 4 * (b[14] & 15). */
function isOffset(term: Term): boolean {
  if (term.kind === 'load') return term.base === undefined && term.offset < FARTHEST_FIELD;
  return (
    term.kind === 'alu' &&
    (term.op === '+' || term.op === '*' || term.op === '&' || term.op === '<<') &&
    term.right.kind === 'const' &&
    isOffset(term.left)
  );
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
