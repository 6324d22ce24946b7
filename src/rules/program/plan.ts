import { type CbpfProgram, goto, type Item, label } from '../../ebpf/index.ts';
import type { GraphNode } from '../analysis/graph.ts';
import { specialize } from '../analysis/specialize.ts';
import type { Term } from '../analysis/term.ts';
import { Expressions, freshBounds, handOver, ruleSwitch } from './candidate.ts';
import { costOf } from './cost.ts';
import { type Arm, inOrder, rangeCode, switchCode } from './switch.ts';

/** Where a piece of the rules begins: in which program, at which of its entries. */
export interface Place {
  readonly program: number;
  readonly entry: number;
  /** Tail calls from there to the end at most. */
  readonly calls: number;
}

/** A part of the rules that is loaded as one program. */
export interface Part {
  readonly entries: Entry[];
  /** Cost, without what every program begins and ends with. */
  size: number;
}

export interface Entry {
  readonly label: string;
  /** Over the packet from the place on that a prefix has found. */
  readonly inner: boolean;
  /** Ends in a jump. */
  readonly code: readonly Item[];
  /** Whether other programs go there. */
  called: boolean;
}

export interface PlanOptions {
  /** Cost of one program (costOf) that holds rules. */
  readonly size: number;
  /** Row of a rule. */
  readonly rowOf: (rule: number) => number;
  /** Code that goes to an entry of another program. */
  readonly tailCall: (place: Place) => Item[];
  /** Label of each program where what is left with nothing to ask goes. */
  readonly finish: string;
}

interface Built {
  readonly switches: readonly BuiltSwitch[];
  readonly candidates: readonly BuiltCandidate[];
  readonly prefixes: readonly { readonly program: CbpfProgram; readonly built: Built }[];
  /** Without the prefixes. */
  readonly size: number;
}

interface BuiltSwitch {
  readonly term: Term;
  readonly cases: ReadonlyMap<number, Built>;
  readonly size: number;
}

interface BuiltCandidate {
  readonly row: number;
  readonly program: CbpfProgram;
  /** Equal programs have equal keys. */
  readonly key: number;
  readonly size: number;
}

/** Cost of a switch beside those of its cases, and for each case: comparing, switching, handing over. */
const SWITCH = 20;
const CASE = 6;
/** Of a rule's switch. */
const RULE = 1;
/** What going on to another program takes. */
const GO_ON = 12;

/** The candidate of a node that has nothing else. */
function onlyCandidate({ switches, candidates }: Built): BuiltCandidate | undefined {
  return switches.length === 0 && candidates.length === 1 ? candidates[0] : undefined;
}

function countKeys(nodes: Iterable<Built>): Map<number, number> {
  const uses = new Map<number, number>();
  for (const node of nodes) {
    const key = onlyCandidate(node)?.key;
    if (key !== undefined) uses.set(key, (uses.get(key) ?? 0) + 1);
  }
  return uses;
}

/** Cases that have the same expression share it. */
function sizeOfCases(nodes: readonly Built[]): number {
  const seen = new Set<number>();
  let size = nodes.length * CASE;
  for (const node of nodes) {
    const key = onlyCandidate(node)?.key;
    if (key === undefined || !seen.has(key)) size += node.size;
    if (key !== undefined) seen.add(key);
  }
  return size;
}

/** Splits by size, keeping the order; what is larger than `most` stands alone. */
function runs<T>(items: readonly T[], sizeOf: (item: T) => number, most: number): T[][] {
  const out: T[][] = [];
  let room = 0;
  for (const item of items) {
    const size = sizeOf(item);
    if (size > room) {
      out.push([]);
      room = most;
    }
    out.at(-1)?.push(item);
    room -= size;
  }
  return out;
}

/**
 * Splits a decision graph into programs that chain by tail calls, by the static cost of the code alone (cost.ts): the same
 * rules are split the same way on every kernel.
 */
export class Planner {
  readonly parts: Part[] = [];
  readonly #options: PlanOptions;
  readonly #expressions = new Expressions();
  readonly #sizes = new Map<number, number>();
  #labels = 0;

  constructor(options: PlanOptions) {
    this.#options = options;
  }

  /** Where the rules begin; undefined: there are none. */
  plan(graph: GraphNode): Place | undefined {
    return this.#place(this.#build(graph), undefined, false);
  }

  readonly #fresh = (): string => `s${this.#labels++}`;

  #build(node: GraphNode): Built {
    const candidates = node.candidates.map((candidate): BuiltCandidate => {
      const program = specialize(candidate.program, candidate.facts);
      const row = this.#options.rowOf(candidate.rule);
      const key = this.#expressions.keyOf(program);
      let size = this.#sizes.get(key);
      if (size === undefined) {
        size = costOf(this.#expressions.code(program, row, true)) + RULE;
        this.#sizes.set(key, size);
      }
      return { row, program, key, size };
    });
    const switches = node.switches.map(({ term, cases }): BuiltSwitch => {
      const built = new Map([...cases].map(([value, inner]) => [value, this.#build(inner)]));
      return { term, cases: built, size: SWITCH + sizeOfCases([...built.values()]) };
    });
    const size =
      switches.reduce((sum, { size }) => sum + size, 0) + candidates.reduce((sum, { size }) => sum + size, 0);
    const prefixes = node.prefixes.map(({ program, node }) => ({ program, built: this.#build(node) }));
    return { switches, candidates, prefixes, size };
  }

  /** Puts a node somewhere, in pieces, the last first: each piece has to know where it goes on. */
  #place(built: Built, after: Place | undefined, inner: boolean): Place | undefined {
    const { size } = this.#options;
    let next = after;
    for (const { program, built: rules } of built.prefixes.toReversed()) {
      const place = this.#place(rules, next, true);
      if (place !== undefined) next = this.#putPrefix(program, place, next);
    }
    for (const chunk of runs(built.candidates, (one) => one.size, size).toReversed()) {
      const code = chunk.flatMap((one) => this.#candidate(one, inner));
      next = this.#put(code, next, inner);
    }
    for (const one of built.switches.toReversed()) {
      next =
        one.size > size ? this.#spread(one, next, inner) : this.#put(this.#switch(one, inner), next, inner);
    }
    return next;
  }

  /** Runs what rules have in common, and goes on to them when it finds their place. */
  #putPrefix(program: CbpfProgram, rules: Place, next: Place | undefined): Place {
    const found = this.#fresh();
    const none = this.#fresh();
    const code = [
      ...this.#expressions.prefix(program, found),
      goto(none),
      label(found),
      ...this.#options.tailCall(this.#called(rules)),
      label(none),
    ];
    return this.#put(code, next, false, rules.calls + 1);
  }

  /** Runs what is left of a candidate's expression, with its rule's switch before it. */
  #candidate({ row, program }: BuiltCandidate, inner: boolean): Item[] {
    const after = this.#fresh();
    return [ruleSwitch(row, after), ...this.#expressions.code(program, row, inner), label(after)];
  }

  /** A switch with its cases in place; falls through at its end. */
  #switch({ term, cases }: Pick<BuiltSwitch, 'term' | 'cases'>, inner: boolean): Item[] {
    const after = this.#fresh();
    const code: Item[] = [];
    const arms: Arm[] = [];
    const shared = new Map<number, { readonly name: string; readonly program: CbpfProgram }>();
    const uses = countKeys(cases.values());
    for (const [value, built] of cases) {
      const target = this.#fresh();
      arms.push({ value, target });
      code.push(label(target));
      const alone = onlyCandidate(built);
      if (alone === undefined || (uses.get(alone.key) ?? 0) < 2) {
        code.push(...this.#inline(built, inner), goto(after));
        continue;
      }
      const { name } = shared.get(alone.key) ?? { name: this.#fresh() };
      shared.set(alone.key, { name, program: alone.program });
      code.push(ruleSwitch(alone.row, after), handOver(alone.row), goto(name));
    }
    for (const { name, program } of shared.values()) {
      code.push(label(name), ...this.#expressions.code(program, 'handed over', inner), goto(after));
    }
    return [...switchCode(term, arms, after, this.#fresh), ...code, label(after), ...freshBounds(inner)];
  }

  #inline({ switches, candidates }: Built, inner: boolean): Item[] {
    return [
      ...switches.flatMap((one) => this.#switch(one, inner)),
      ...candidates.flatMap((one) => this.#candidate(one, inner)),
    ];
  }

  /** A switch whose cases do not fit one program: each run of values is a program, found by a smaller switch. */
  #spread({ term, cases }: BuiltSwitch, next: Place | undefined, inner: boolean): Place {
    const { size } = this.#options;
    const uses = countKeys(cases.values());
    const sizeOf = (value: number): number => {
      const built = cases.get(value) as Built;
      const alone = onlyCandidate(built);
      const isShared = alone !== undefined && (uses.get(alone.key) ?? 0) > 1;
      return isShared ? CASE : Math.min(built.size + CASE, size - SWITCH);
    };
    const places: { values: readonly number[]; place: Place }[] = [];
    for (const values of runs(inOrder(term, [...cases.keys()]), sizeOf, size - SWITCH)) {
      const elsewhere = new Map<number, Place>();
      const here = new Map<number, Built>();
      for (const value of values) {
        const built = cases.get(value) as Built;
        const place = built.size + CASE > size - SWITCH ? this.#place(built, next, inner) : undefined;
        if (place === undefined) here.set(value, built);
        else elsewhere.set(value, place);
      }
      const arms: Arm[] = [];
      const away: Item[] = [];
      for (const [value, place] of elsewhere) {
        const target = this.#fresh();
        arms.push({ value, target });
        away.push(label(target), ...this.#options.tailCall(this.#called(place)));
      }
      const code = this.#switch({ term, cases: here }, inner);
      const calls = Math.max(0, ...[...elsewhere.values()].map((place) => place.calls + 1));
      const first = elsewhere.size === 0 ? [] : this.#switchAway(term, arms, away, inner);
      places.push({ values, place: this.#put([...first, ...code], next, inner, calls) });
    }
    const none = this.#fresh();
    const ranges = places.map(({ values, place }) => ({ values, target: this.#fresh(), place }));
    const code = [
      ...rangeCode(term, ranges, none),
      ...ranges.flatMap(({ target, place }) => [
        label(target),
        ...this.#options.tailCall(this.#called(place)),
      ]),
      label(none),
      ...freshBounds(inner),
    ];
    return this.#put(code, next, inner, Math.max(...places.map(({ place }) => place.calls + 1)));
  }

  #switchAway(term: Term, arms: readonly Arm[], away: readonly Item[], inner: boolean): Item[] {
    const stay = this.#fresh();
    return [...switchCode(term, arms, stay, this.#fresh), ...away, label(stay), ...freshBounds(inner)];
  }

  #called(place: Place): Place {
    this.parts[place.program].entries[place.entry].called = true;
    return place;
  }

  /** Puts code that falls through at its end into a program with room: that of what comes next, or the last one. */
  #put(code: readonly Item[], next: Place | undefined, inner: boolean, calls = 0): Place {
    const size = costOf(code) + GO_ON;
    const fits = (program: number): boolean =>
      program >= 0 && this.parts[program].size + size <= this.#options.size + SWITCH + GO_ON;
    let program = next?.program ?? this.parts.length - 1;
    if (!fits(program)) program = this.parts.push({ entries: [], size: 0 }) - 1;
    const part = this.parts[program];
    const here = next !== undefined && next.program === program;
    const on =
      next === undefined
        ? [goto(this.#options.finish)]
        : here
          ? [goto(part.entries[next.entry].label)]
          : this.#options.tailCall(this.#called(next));
    part.size += size;
    const entry = part.entries.length;
    part.entries.push({ label: `e${program}_${entry}`, inner, code: [...code, ...on], called: false });
    const beyond = next === undefined ? 0 : next.calls + (here ? 0 : 1);
    return { program, entry, calls: Math.max(calls, beyond) };
  }
}
