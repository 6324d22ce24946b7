import { SluiceError } from '../base/errors.ts';
import { ClassicEngine, compileFilterText, FrameBatch, type Language } from '../filter/index.ts';
import type { RuleAction } from '../rules/spec.ts';
import { type Rows, SAMPLE_HEAD } from './columns.ts';
import type { Attack, Detector } from './detector.ts';
import { upperBound } from './estimate.ts';
import { baseHolds, expressionOf, type Statement, type Veto } from './expression.ts';
import { holds, type Term } from './features.ts';
import { KINDS } from './kinds.ts';
import { limitFor, type Senders, sharedLimit, sourcesOf } from './limit.ts';
import { MOST_BEFORE, nameExpression } from './name-expression.ts';
import { QueryName } from './names.ts';
import { commonPrefix, LEVELS, overlaps, type Prefix, prefixText } from './prefix.ts';
import { findSignature } from './signature.ts';

export interface SynthesisOptions {
  /** Share of the usual packets to a target that a rule that drops may match. */
  readonly maxCollateral: number;
  /** Share of all usual packets that a rule that drops may match. */
  readonly maxUsual: number;
  /** Rules for one attack. */
  readonly maxRules: number;
  /** Shortest prefixes of targets that something is dropped for. */
  readonly shortest: { readonly 4: number; readonly 6: number };
  readonly vetoes: readonly Veto[];
}

export const SYNTHESIS_DEFAULTS: SynthesisOptions = {
  maxCollateral: 0.001,
  maxUsual: 0.01,
  maxRules: 5,
  shortest: { 4: 16, 6: 32 },
  vetoes: [],
};

/** Packets of a set that an expression matches; `upper` is the 95 % bound on its share (Clopper-Pearson). */
export interface Matched {
  matched: number;
  of: number;
  upper: number;
}

export interface ProposedRule {
  id: string;
  expr: string;
  lang: Language;
  action: RuleAction;
  /** Share of the attack's samples that it alone matches: of those that it was not made from. */
  covers: number;
  /** Usual packets to the same target. */
  toTarget: Matched;
  /** Usual packets to anywhere, without regard to the target. */
  anywhere: Matched;
  why: string;
}

export interface Proposal {
  rules: ProposedRule[];
  /** Share of the attack's samples that no rule matches. */
  uncovered: number;
  /** Share of them that is likely to be no attack, by what is usual. */
  usualShare: number;
  /** Why there are none, or not more. */
  notes: string[];
}

/** Fewer usual packets say nothing. */
const ENOUGH = 100;
/** Packets that a further rule is made for at least: fewer may well be usual ones. */
const FEWEST_LEFT = 8;
/** Least share of an attack that a further rule has to match. */
const LEAST_COVER = 0.01;
/** How many times as much usual packets weigh in the search for something that may be dropped; share of the attack that is worth it. */
const STRICT = 16;
const WORTH = 0.05;
/** Share of what is left that a limit has to match to be kept to its terms. */
const NEARLY = 0.9;
/** Bound on the share of usual packets that is accepted with no packet matched. */
const MAX_UPPER = 0.03;
/** Share of the targets that the prefix of an attack has to hold. */
const HELD = 0.995;

/** Undefined of one that no packet can match, as when all of it is vetoed, or that is too long. */
function engineFor(expr: string, lang: Language): ClassicEngine | undefined {
  try {
    return new ClassicEngine(compileFilterText(expr, lang));
  } catch (error) {
    if (error instanceof SluiceError && error.code.startsWith('FILTER_')) return undefined;
    throw error;
  }
}

/** Which of these rows an expression matches, as the kernel would see it; none when there is no filter for it. */
export function matchedRows(expr: string, lang: Language, { columns, rows }: Rows): boolean[] {
  const engine = engineFor(expr, lang);
  if (engine === undefined) return rows.map(() => false);
  const batch = new FrameBatch();
  const matched: boolean[] = [];
  const flush = (): void => {
    engine.run(batch);
    for (let i = 0; i < batch.count; i++) matched.push(batch.returns[i] !== 0);
    batch.clear();
  };
  for (const row of rows) {
    batch.add(columns.frames, row * SAMPLE_HEAD, columns.captured[row], columns.length[row]);
    if (batch.full) flush();
  }
  flush();
  engine.close();
  return matched;
}

const counted = (matched: readonly boolean[], of: number): Matched => {
  const k = matched.filter(Boolean).length;
  return { matched: k, of, upper: upperBound(k, of) };
};

/** The prefix that the packets go to: of one that is attacked as a whole the part that is hit. */
function aimOf(target: Prefix, { columns, rows }: Rows): Prefix {
  if (target.bits === LEVELS[target.family][0]) return target;
  // Sorted, so that the few who are far away stand at the ends.
  const sorted = rows.toSorted((a, b) => {
    for (let i = 0; i < 4; i++) {
      const difference = columns.target[4 * a + i] - columns.target[4 * b + i];
      if (difference !== 0) return difference;
    }
    return 0;
  });
  const cut = Math.floor((sorted.length * (1 - HELD)) / 2);
  const inner = sorted.slice(cut, sorted.length - cut);
  return commonPrefix(target.family, columns.target, inner.length > 0 ? inner : rows, target.bits);
}

const half = ({ columns, rows }: Rows, odd: number): Rows => ({
  columns,
  rows: rows.filter((_, at) => (at & 1) === odd),
});

const slug = (text: string): string => text.replace(/[^A-Za-z0-9.]+/g, '-').replace(/^-+|-+$/g, '');

/** Makes rules against an attack from its samples (rows of the detector's window) and what is usual. */
export function synthesize(
  detector: Detector,
  attack: Attack,
  rows: readonly number[],
  given: Partial<SynthesisOptions> = {},
): Proposal {
  const options = { ...SYNTHESIS_DEFAULTS, ...given };
  const { recent, usual } = detector.window;
  const samples: Rows = { columns: recent, rows };
  const rest: Rows = { columns: usual, rows: Array.from({ length: usual.count }, (_, row) => row) };
  const usualShare = attack.peak === 0 ? 0 : Math.min(1, attack.usual / attack.peak);
  const proposal: Proposal = { rules: [], uncovered: 1, usualShare, notes: [] };
  if (rows.length < 2) {
    proposal.notes.push('too few samples');
    return proposal;
  }
  if (attack.track.target === undefined) proposeName(attack, samples, rest, options, proposal);
  else proposeTarget(attack, attack.track.target, samples, rest, options, proposal);
  const seen = proposal.rules.map(({ expr, lang }) => matchedRows(expr, lang, samples));
  proposal.uncovered = rows.filter((_, at) => !seen.some((matched) => matched[at])).length / rows.length;
  return proposal;
}

function proposeTarget(
  attack: Attack,
  whole: Prefix,
  samples: Rows,
  rest: Rows,
  options: SynthesisOptions,
  proposal: Proposal,
): void {
  const target = aimOf(whole, samples);
  const { kind } = attack.track;
  if (target.bits < options.shortest[target.family]) {
    proposal.notes.push(`${prefixText(target)} is wider than anything may be dropped for`);
    return;
  }
  const inside = (veto: Veto): boolean => veto.host !== undefined && overlaps(veto.host, target);
  if (
    options.vetoes.some(
      (veto) =>
        inside(veto) &&
        veto.protocol === undefined &&
        veto.port === undefined &&
        veto.host !== undefined &&
        veto.host.bits <= target.bits,
    )
  ) {
    proposal.notes.push(`${prefixText(target)} is on the veto list`);
    return;
  }
  const { family } = target;
  const statement: Statement = {
    kind,
    family,
    target,
    terms: [],
    // Of the other family it would hold for no packet.
    vetoes: options.vetoes.filter(({ host }) => host === undefined || host.family === family),
    tags: commonTags(samples),
  };
  const learnFrom = half(samples, 0);
  const heldOut = half(samples, 1);
  const toTarget = within(rest, target);
  const alike = toTarget.rows.filter((row) => baseHolds(kind, rest.columns, row));
  const alikeAnywhere = rest.rows.filter((row) => baseHolds(kind, rest.columns, row)).length;
  const usually = sourcesOf({ columns: rest.columns, rows: alike });
  const senders: Senders = {
    sources: sourcesOf(samples).size,
    samples: samples.rows.length,
    usualTop: alike.length === 0 ? 0 : Math.max(...usually.values()) / alike.length,
  };
  // Of few all are needed.
  const known = alikeAnywhere < 2 * ENOUGH ? rest : half(rest, 0);
  let left = learnFrom.rows;
  const floor = Math.max(LEAST_COVER + proposal.usualShare, FEWEST_LEFT / learnFrom.rows.length);
  const share = (): number => left.length / learnFrom.rows.length;
  const tried = (terms: readonly Term[]): ProposedRule =>
    weigh(attack, { ...statement, terms }, heldOut, toTarget, rest, options, senders);
  const add = (rule: ProposedRule): void => {
    rule.id = `m-${slug(KINDS[kind].name)}-${slug(prefixText(target))}-${attack.number}.${proposal.rules.length + 1}`;
    proposal.rules.push(rule);
  };
  let alikeIt: ProposedRule | undefined;
  while (proposal.rules.length < options.maxRules - 1 && (proposal.rules.length === 0 || share() > floor)) {
    const search = (strictness: number): { terms: Term[]; rule: ProposedRule } => {
      const from = { columns: samples.columns, rows: left };
      const terms = findSignature(kind, family, from, known, senders.sources <= 8, strictness);
      return { terms, rule: tried(terms) };
    };
    let { terms, rule } = search(1);
    if (rule.action.kind === 'limit') {
      alikeIt = rule;
      // Less of it, but what may be dropped, if there is such a thing.
      ({ terms, rule } = search(STRICT));
    }
    if (rule.action.kind === 'limit' || rule.covers < (alikeIt === undefined ? LEAST_COVER : WORTH)) break;
    alikeIt = undefined;
    add(rule);
    left = left.filter((row) => !terms.every((term) => holds(samples.columns, row, term)));
    if (terms.length === 0) return;
  }
  if (proposal.rules.length > 0 && share() <= floor) return;
  // What cannot be told apart is limited, as long as it is too much without what is dropped.
  const all = tried([]);
  if (all.covers < LEAST_COVER) {
    proposal.notes.push('no rule beside the veto list matches enough of it');
    return;
  }
  if (proposal.rules.length > 0 && attack.peak * share() <= sharedLimit(attack).rate) {
    proposal.notes.push(`${percent(share())} look like what is usual`);
    return;
  }
  if (alikeIt === undefined) add(all);
  else if (all.toTarget.matched > 2 * alikeIt.toTarget.matched && alikeIt.covers >= NEARLY * share())
    add(alikeIt);
  else add({ ...all, action: alikeIt.action, why: alikeIt.why });
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

const within = ({ columns, rows }: Rows, target: Prefix): Rows => ({
  columns,
  rows: rows.filter((row) => {
    const prefix = commonPrefix(target.family, columns.target, [row], 0);
    return columns.family[row] === target.family && overlaps(target, prefix);
  }),
});

/** VLAN tags that nearly all have. */
function commonTags({ columns, rows }: Rows): number {
  const counts = [0, 0, 0, 0, 0];
  for (const row of rows) counts[columns.tags[row]]++;
  return counts.indexOf(Math.max(...counts));
}

/** Tries a statement on samples that it was not made from, and on usual packets, and decides what may be done. */
function weigh(
  attack: Attack,
  statement: Statement,
  heldOut: Rows,
  toTarget: Rows,
  rest: Rows,
  options: SynthesisOptions,
  senders: Senders,
): ProposedRule {
  const expr = expressionOf(statement);
  const covers = counted(matchedRows(expr, 'tcpdump', heldOut), heldOut.rows.length);
  const here = counted(matchedRows(expr, 'tcpdump', toTarget), toTarget.rows.length);
  const open = expressionOf({ ...statement, target: undefined });
  const anywhere = counted(matchedRows(open, 'tcpdump', rest), rest.rows.length);
  const verdict = decide(attack, statement.terms, here, anywhere, options);
  return {
    id: '',
    expr,
    lang: 'tcpdump',
    action: verdict === undefined ? { kind: 'drop' } : limitFor(attack, senders),
    covers: covers.of === 0 ? 0 : covers.matched / covers.of,
    toTarget: here,
    anywhere,
    why: verdict ?? 'nothing usual looks like it',
  };
}

/** Why packets may not be dropped; undefined: they may. */
function decide(
  attack: Attack,
  terms: readonly Term[],
  here: Matched,
  anywhere: Matched,
  { maxCollateral, maxUsual }: SynthesisOptions,
): string | undefined {
  const point = ({ matched, of }: Matched): number => (of === 0 ? 0 : matched / of);
  if (here.of >= ENOUGH) {
    if (point(here) > maxCollateral) return `${percent(point(here))} of the usual packets to it look like it`;
    if (here.upper <= MAX_UPPER || point(anywhere) <= maxUsual) return undefined;
  }
  if (here.matched > 0) return 'usual packets to it look like it';
  if (anywhere.of >= ENOUGH && point(anywhere) > maxUsual)
    return `${percent(point(anywhere))} of the usual packets anywhere look like it`;
  if (anywhere.of >= ENOUGH) return undefined;
  // Nothing is known of what is usual: what is plain by itself.
  const { reflector } = KINDS[attack.track.kind];
  if (terms.length > 0 || reflector !== 0) return undefined;
  return 'what is usual is not known';
}

/** Against random names under one: the name. */
function proposeName(
  attack: Attack,
  samples: Rows,
  rest: Rows,
  { vetoes }: SynthesisOptions,
  proposal: Proposal,
): void {
  const query = new QueryName();
  const { columns, rows } = samples;
  const names = new Map<string, number>();
  const hosts = new Set<string>();
  const before = new Map<number, number>();
  for (const row of rows) {
    if (!query.read(columns, row)) continue;
    const name = query.text(columns.frames);
    names.set(name, (names.get(name) ?? 0) + 1);
    hosts.add(query.host(columns.frames));
    const labels = query.labels - query.owned;
    before.set(labels, (before.get(labels) ?? 0) + 1);
  }
  const [name] = [...names].toSorted((a, b) => b[1] - a[1])[0] ?? [''];
  if (name === '' || name.includes('?')) {
    proposal.notes.push('the name has characters that rules do not have');
    return;
  }
  if (hosts.size < 0.5 * rows.length) {
    proposal.notes.push(`${hosts.size} names in ${rows.length} queries: asked often, not at random`);
    return;
  }
  const family = (attack.track.key[4] & 0xff) === 6 ? 6 : 4;
  const touching = vetoes.filter(
    ({ host, protocol }) => protocol !== 'tcp' && (host === undefined || host.family === family),
  );
  const often = [...before]
    .filter(([labels, count]) => labels <= MOST_BEFORE && count >= LEAST_COVER * rows.length)
    .map(([labels]) => labels)
    .toSorted((a, b) => a - b);
  let expr = `**.${name}`;
  let lang: Language = 'dns';
  if (touching.length > 0) {
    if (often.length === 0) {
      proposal.notes.push(
        `more than ${MOST_BEFORE} labels before the name: no rule that leaves out the veto list`,
      );
      return;
    }
    expr = nameExpression({ family, name, before: often, vetoes: touching, tags: commonTags(samples) });
    lang = 'tcpdump';
  }
  const matched = counted(matchedRows(expr, lang, rest), rest.rows.length);
  const covered = counted(matchedRows(expr, lang, samples), rows.length);
  if (covered.matched < LEAST_COVER * covered.of) {
    proposal.notes.push('what asks, or is asked, is on the veto list');
    return;
  }
  const legitimate = matched.matched > 0;
  proposal.rules.push({
    id: `m-dns-water-torture-${slug(name).slice(0, 40)}-${attack.number}.1`,
    expr,
    lang,
    action: legitimate ? sharedLimit(attack) : { kind: 'drop' },
    covers: covered.matched / covered.of,
    toTarget: matched,
    anywhere: matched,
    why: `${
      legitimate
        ? `${matched.matched} usual queries are for names under it`
        : 'nobody has asked for names under it before'
    }${lang === 'dns' ? '' : `; names under ${name} but for the veto list`}`,
  });
}
