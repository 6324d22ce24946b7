import { MAX_VALUES, range } from './candidates.ts';
import type { Rows } from './columns.ts';
import { counted, type Feature, matching, type Term } from './features.ts';

/** Neighbours in time have it alike, whoever sends them: true now says nothing of what comes. */
const PASSING = /^(ip-id|seq|ack|source|flow-label|option-[48]|option-12|icmp-sequence)/;
/** Packets that have to agree in something before it is taken for a mark of theirs, and usual ones that it is held against. */
const AGREEING = 30;
const HELD_AGAINST = 20;
/** Such marks at most, and the share of the usual that may have one: what more have tells nothing. */
const MAX_MARKS = 4;
const COMMON = 0.7;

/**
 * What all packets of an attack have besides these terms, and few of the usual: when only few usual ones have been seen, the next
 * one may hold for the terms that told those apart, but hardly for everything.
 */
export function marks(
  features: readonly Feature[],
  terms: readonly Term[],
  attack: Rows,
  usual: Rows,
): Term[] {
  if (attack.rows.length < AGREEING || usual.rows.length < HELD_AGAINST) return [];
  const found: { term: Term; share: number }[] = [];
  for (const feature of features) {
    if (PASSING.test(feature.name) || terms.some((term) => term.feature === feature)) continue;
    const { values, known } = counted(attack, feature);
    if (known < attack.rows.length) continue;
    const all = [...values.keys()].toSorted((a, b) => a - b);
    if (all.length > MAX_VALUES && !feature.ordered) continue;
    const term =
      all.length <= MAX_VALUES ? { feature, values: all } : range(feature, all[0], all[all.length - 1]);
    const share = matching(usual, term) / usual.rows.length;
    if (share <= COMMON) found.push({ term, share });
  }
  return found
    .toSorted((a, b) => a.share - b.share)
    .slice(0, MAX_MARKS)
    .map(({ term }) => term);
}
