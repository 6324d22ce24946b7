import type { EdgeResult } from '../fleet/nats-desk.ts';

/** What became of a rule at all edges. */
export interface RuleResult {
  id: string;
  /** Edges at which it is in force, and that refuse it. */
  edges: number;
  refused: number;
  /** Packets. */
  matched: number;
  dropped: number;
}

/** Sums up what edges have told of rules. */
export function sumResults(edges: readonly EdgeResult[], ids: readonly string[]): RuleResult[] {
  const results = new Map(
    ids.map((id): [string, RuleResult] => [id, { id, edges: 0, refused: 0, matched: 0, dropped: 0 }]),
  );
  for (const { rules } of edges)
    for (const { id, state, matched, dropped } of rules) {
      const result = results.get(id);
      if (result === undefined) continue;
      if (state === 'in force') result.edges++;
      if (state === 'refused') result.refused++;
      result.matched += matched.pkts;
      result.dropped += dropped.pkts;
    }
  return [...results.values()];
}
