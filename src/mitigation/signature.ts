import type { SampleColumns } from './columns.ts';
import { baseHolds } from './expression.ts';
import { type Feature, featuresOf, holds, type Term, valueOf } from './features.ts';
import { KINDS } from './kinds.ts';

/** Rows of columns. */
export interface Rows {
  readonly columns: SampleColumns;
  readonly rows: readonly number[];
}

const MAX_TERMS = 5;
/** Single values that one term names at most. */
const MAX_VALUES = 4;
/** A value or set of values that fewer of the packets have says nothing about them. */
const LEAST_SHARE = 0.05;
/** Bits that a term has to bring for each packet: against packets that were seen, and against made-up ones. */
const LEAST_GAIN = 0.001;
const LEAST_IMAGINED = 0.02;
/** As many packets as are made up for what is usual beside those that were seen: they differ as packets at large do. */
const IMAGINED = 20;
/** Of these all packets may be alike for a while, or for many others are alike too: taken only for what was seen to differ. */
const NOT_IMAGINED =
  /^(ip-id|seq|ack|tos|dont-fragment|source|flow-label|udp-checksum|flags|option-[48]|option-12|urgent)/;
/** Ranges of it are told from others by little: what lies beyond the samples seen is counted in. */
const MARGIN = 0.1;

function counted(set: Rows, feature: Feature): { values: Map<number, number>; known: number } {
  const values = new Map<number, number>();
  let known = 0;
  for (const row of set.rows) {
    const value = valueOf(set.columns, row, feature);
    if (value < 0) continue;
    known++;
    values.set(value, (values.get(value) ?? 0) + 1);
  }
  return { values, known };
}

function range(feature: Feature, low: number, high: number): Term {
  const margin = Math.ceil((high - low) * MARGIN);
  return { feature, low: Math.max(0, low - margin), high: Math.min(feature.most, high + margin) };
}

/** What can be said about a feature of these packets. */
function candidates(set: Rows, feature: Feature): Term[] {
  const { values, known } = counted(set, feature);
  if (known < set.rows.length * LEAST_SHARE) return [];
  const terms: Term[] = [];
  const frequent = [...values].toSorted((a, b) => b[1] - a[1]).slice(0, MAX_VALUES);
  let covered = 0;
  for (const [at, [, count]] of frequent.entries()) {
    if (count < set.rows.length * LEAST_SHARE) break;
    covered += count;
    if (covered >= set.rows.length * LEAST_SHARE)
      terms.push({ feature, values: frequent.slice(0, at + 1).map(([value]) => value) });
  }
  if (!feature.ordered || values.size < 2) return terms;
  const sorted = [...values.keys()].toSorted((a, b) => a - b);
  const all = range(feature, sorted[0], sorted[sorted.length - 1]);
  terms.push(all);
  const least = sorted[0];
  const most = sorted[sorted.length - 1];
  terms.push({ feature, low: range1(feature, least, most).low, high: feature.most });
  terms.push({ feature, low: 0, high: range1(feature, least, most).high });
  // Without the outermost, who may be others.
  let seen = 0;
  let low = least;
  let high = most;
  for (const value of sorted) {
    const count = values.get(value) ?? 0;
    if (seen < known * 0.02) low = value;
    seen += count;
    if (seen <= known * 0.98) high = value;
  }
  if (high > low && (low > least || high < most)) {
    terms.push(range(feature, low, high));
    terms.push({ feature, low: range1(feature, low, high).low, high: feature.most });
    terms.push({ feature, low: 0, high: range1(feature, low, high).high });
  }
  return terms.filter((term) => !('low' in term) || term.low > 0 || term.high < feature.most);
}

function range1(feature: Feature, low: number, high: number): { low: number; high: number } {
  const margin = Math.ceil((high - low) * MARGIN);
  return { low: Math.max(0, low - margin), high: Math.min(feature.most, high + margin) };
}

const matching = (set: Rows, term: Term): number => {
  let count = 0;
  for (const row of set.rows) if (holds(set.columns, row, term)) count++;
  return count;
};

const narrowed = ({ columns, rows }: Rows, term: Term): Rows => ({
  columns,
  rows: rows.filter((row) => holds(columns, row, term)),
});

/**
 * The terms that tell most packets of an attack from the usual ones of its kind, found greedily by what a term gains in bits
 * (FOIL: Quinlan, Learning Logical Definitions from Relations, 1990). Both weigh alike, however many there are of either.
 */
export function findSignature(
  kind: number,
  family: 4 | 6,
  attack: Rows,
  usual: Rows,
  allowSources: boolean,
): Term[] {
  const features = featuresOf(family, KINDS[kind].protocol).filter(
    ({ name }) =>
      (allowSources || !name.startsWith('source')) &&
      // Said already.
      (name !== 'sport' || KINDS[kind].reflector === 0),
  );
  const alike = usual.rows.filter(
    (row) => usual.columns.family[row] === family && baseHolds(kind, usual.columns, row),
  );
  // Both sides weigh alike.
  const scale = attack.rows.length / (alike.length + IMAGINED);
  const terms: Term[] = [];
  let positive = attack;
  let negative: Rows = { columns: usual.columns, rows: alike };
  let imagined = IMAGINED;
  const bits = (p: number, n: number): number => Math.log2((p + 0.5) / (p + n * scale + 1));
  while (terms.length < MAX_TERMS) {
    const before = bits(positive.rows.length, negative.rows.length + imagined);
    let best: Term | undefined;
    let most = LEAST_GAIN * positive.rows.length;
    for (const feature of features) {
      if (terms.some((term) => term.feature === feature)) continue;
      for (const term of candidates(positive, feature)) {
        const p = matching(positive, term);
        const n = matching(negative, term);
        // What only made-up packets speak for must not cost any of the attack.
        const seen = n < negative.rows.length;
        if (!seen && (p < positive.rows.length || NOT_IMAGINED.test(feature.name))) continue;
        const share = NOT_IMAGINED.test(feature.name) ? 1 : usualShare(term);
        const gain = p * (bits(p, n + imagined * share) - before);
        if (gain <= most || (!seen && gain <= LEAST_IMAGINED * p)) continue;
        most = gain;
        best = term;
      }
    }
    if (best === undefined) break;
    terms.push(best);
    positive = narrowed(positive, best);
    negative = narrowed(negative, best);
    if (!NOT_IMAGINED.test(best.feature.name)) imagined *= usualShare(best);
  }
  return terms;
}

/** Values that packets at large have: how many of them, about. */
const SPREAD: Record<string, number> = {
  ttl: 60,
  length: 1500,
  header: 4,
  protocol: 3,
  'icmp-type': 3,
  'option-kind': 3,
};

/** Share of packets at large for which a term may hold. */
function usualShare(term: Term): number {
  const { name, size, most } = term.feature;
  const port = name === 'sport' || name === 'dport';
  // Services are few, and everybody uses them.
  if (port && ('low' in term ? term.low : Math.min(...term.values)) < 1024) return 'low' in term ? 1 : 0.3;
  if ('low' in term) return Math.min(1, (term.high - term.low + 1) / (SPREAD[name] ?? most + 1));
  if (name.startsWith('option')) return Math.min(1, 0.4 * term.values.length);
  const spread =
    SPREAD[name] === undefined ? (size === 1 ? 16 : size === 2 ? 50 : 200) : Math.min(SPREAD[name], 30);
  return Math.min(1, term.values.length / spread);
}
