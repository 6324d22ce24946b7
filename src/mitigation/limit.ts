import type { RuleAction } from '../rules/spec.ts';
import type { Rows } from './columns.ts';
import type { Attack } from './detector.ts';

/** How often sources are seen, on the average, when all of them are known. */
const SEEN = 3;
/** As many times as the busiest of the usual sources a source may send under a limit of its own. */
const SPARE = 4;
const BASE = { kind: 'limit', unit: 'packets', burst: 0.1, prefix4: 32, prefix6: 64 } as const;
/** Part of a threshold below which the rate of a target is not followed. */
const UNSEEN = 0.1;

type Limit = RuleAction & { readonly kind: 'limit' };

/** Who sends what an attack consists of, and what is usual instead. */
export interface Senders {
  /** Different sources. */
  readonly sources: number;
  /** Samples of them. */
  readonly samples: number;
  /** Share of the source that has most of the usual packets to the target. */
  readonly usualTop: number;
}

/** Source addresses, and how many rows each has. */
export function sourcesOf({ columns, rows }: Rows): Map<string, number> {
  const sources = new Map<string, number>();
  for (const row of rows) {
    const source = columns.source.subarray(4 * row, 4 * row + 4).join('.');
    sources.set(source, (sources.get(source) ?? 0) + 1);
  }
  return sources;
}

/** Of made-up sources all have to share: twice what is usual, or what would not have been followed. */
export function sharedLimit({ threshold, usual }: Attack): Limit {
  return { ...BASE, rate: Math.ceil(Math.max(threshold * UNSEEN, 2 * usual)), burst: 1, per: 'rule' };
}

/** What is let through of what cannot be told apart. */
export function limitFor(attack: Attack, { sources, samples, usualTop }: Senders): Limit {
  const rate = Math.max(attack.threshold / 2, 2 * attack.usual);
  // Hosts that each send far more than anybody does usually: a limit for each spares the usual ones, unless it lets more through.
  const each = Math.max(rate / sources, SPARE * usualTop * attack.usual);
  if (sources > 8 && samples >= SEEN * sources && each * sources <= 2 * rate)
    return { ...BASE, rate: Math.ceil(each), per: 'source' };
  // Many sources that each send little are let through by limits of their own; few that send much are not.
  if (sources <= 8) return { ...BASE, rate: Math.ceil(rate / Math.max(1, sources)), per: 'source' };
  return sharedLimit(attack);
}
