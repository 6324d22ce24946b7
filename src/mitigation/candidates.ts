/** What can be said of packets of an attack, one feature at a time. */
import type { Rows } from './columns.ts';
import { counted, type Feature, type Term } from './features.ts';

/** Single values that one term names at most. */
export const MAX_VALUES = 4;
/** A value or set of values that fewer of the packets have says nothing about them. */
const LEAST_SHARE = 0.05;
const FEWEST = 3;
/** Share of the packets at either end of a range who may be others. */
const OUTMOST = 0.02;
/** Ranges of it are told from others by little: what lies beyond the samples seen is counted in. */
const MARGIN = 0.1;

/** In one order: rules that say the same are the same. */
const inOrder = (values: Iterable<number>): number[] => [...values].toSorted((a, b) => a - b);

/** From `low` to `high`, and a little more. */
export function range(feature: Feature, low: number, high: number): Term & { low: number; high: number } {
  const margin = Math.ceil((high - low) * MARGIN);
  return { feature, low: Math.max(0, low - margin), high: Math.min(feature.most, high + margin) };
}

/** The range, and what is not below or above it. */
function rangesOf(feature: Feature, least: number, most: number): Term[] {
  const both = range(feature, least, most);
  const all = [both, { ...both, high: feature.most }, { ...both, low: 0 }];
  return all.filter(({ low, high }) => low > 0 || high < feature.most);
}

/** Values that many of these have, and ranges that most are in. */
export function candidates(set: Rows, feature: Feature): Term[] {
  const { values, known } = counted(set, feature);
  const enough = Math.max(FEWEST, set.rows.length * LEAST_SHARE);
  if (known < enough) return [];
  const frequent = [...values]
    .filter(([, count]) => count >= enough)
    .toSorted((a, b) => b[1] - a[1])
    .slice(0, MAX_VALUES)
    .map(([value]) => value);
  const terms: Term[] = frequent.map((_, at) => ({ feature, values: inOrder(frequent.slice(0, at + 1)) }));
  if (!feature.ordered || values.size < 2) return terms;
  const each = inOrder(values.keys());
  const least = each[0];
  const most = each[each.length - 1];
  terms.push(...rangesOf(feature, least, most));
  let seen = 0;
  let low = least;
  let high = most;
  for (const value of each) {
    if (seen < known * OUTMOST) low = value;
    seen += values.get(value) ?? 0;
    if (seen <= known * (1 - OUTMOST)) high = value;
  }
  if (high > low && (low > least || high < most)) terms.push(...rangesOf(feature, low, high));
  return terms;
}

/** Usual packets of which it says something that none is above or below, and that none is between two. */
const BEYOND = 20;
const BETWEEN = 100;

/** Ranges that usual packets are not in: above all of them, below, and where most of the attack is between two. */
export function splits(attack: Rows, usual: Rows, feature: Feature): Term[] {
  if (!feature.ordered) return [];
  const { values, known } = counted(usual, feature);
  if (known < BEYOND) return [];
  const walls = inOrder(values.keys());
  const inside = Array.from({ length: walls.length + 1 }, () => 0);
  for (const [value, count] of counted(attack, feature).values) {
    const at = walls.findIndex((wall) => wall >= value);
    if (walls[at] !== value) inside[at < 0 ? walls.length : at] += count;
  }
  const between = (at: number): Term & { low: number; high: number } => ({
    feature,
    low: at === 0 ? 0 : walls[at - 1] + 1,
    high: at === walls.length ? feature.most : walls[at] - 1,
  });
  const ends = [0, walls.length];
  const places = known < BETWEEN ? ends : [...new Set([...ends, inside.indexOf(Math.max(...inside))])];
  return places.map(between).filter(({ low, high }) => low <= high);
}

/** What somebody usual is known by: who sends, and the service that answers. */
const KNOWN_BY = /^(source|source-24|source-64|sport)$/;
/** Ports of services. */
const MAX_SERVICE = 1023;

/** What can be said of who sends usual packets again and again: that it is none of these. Who came once may not come again. */
export function exceptions(usual: Rows, feature: Feature): Term[] {
  if (!KNOWN_BY.test(feature.name)) return [];
  const often = [...counted(usual, feature).values]
    .filter(([value, count]) => count >= FEWEST && (feature.name !== 'sport' || value <= MAX_SERVICE))
    .toSorted((a, b) => b[1] - a[1])
    .slice(0, MAX_VALUES)
    .map(([value]) => value);
  return often.map((_, at) => ({ feature, except: inOrder(often.slice(0, at + 1)) }));
}
