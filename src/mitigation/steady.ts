import type { Rows } from './columns.ts';
import { type Feature, valueOf } from './features.ts';

/** Standard errors by which the ranks of the newer half may differ from those of the older one. */
const SIGMAS = 6;

/**
 * Whether a feature of these packets stays as it is: what counts up, as ports and numbers of many tools do, is somewhere else when
 * a rule about it is in force. By ranks (Mann and Whitney, 1947), so that the few usual packets among them say nothing.
 */
export function isSteady({ columns, rows }: Rows): (feature: Feature) => boolean {
  const times = rows.map((row) => columns.time[row]).toSorted((a, b) => a - b);
  const middle = times[times.length >> 1];
  return (feature) => {
    const known = rows
      .map((row) => ({ value: valueOf(columns, row, feature), isNewer: columns.time[row] >= middle }))
      .filter(({ value }) => value >= 0)
      .toSorted((a, b) => a.value - b.value);
    const n = known.length;
    let newer = 0;
    let ranks = 0;
    let ties = 0;
    for (let from = 0, to = 0; from < n; from = to) {
      while (to < n && known[to].value === known[from].value) to++;
      const same = to - from;
      ties += same ** 3 - same;
      for (let at = from; at < to; at++) {
        if (!known[at].isNewer) continue;
        newer++;
        ranks += (from + to + 1) / 2;
      }
    }
    const pairs = newer * (n - newer);
    const variance = (pairs / 12) * (n + 1 - ties / (n * (n - 1)));
    // Nothing to compare, or all of them alike.
    if (pairs === 0 || variance <= 0) return true;
    return Math.abs(ranks - (newer * (newer + 1)) / 2 - pairs / 2) <= SIGMAS * Math.sqrt(variance);
  };
}
