import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { type Rule, ruleSchema } from '../rules/spec.ts';

const count = z.object({ pkts: z.number(), bytes: z.number() });
const schema = z.object({
  version: z.literal(1),
  rules: z.array(ruleSchema),
  /** Row of each rule in the pinned map of counts, and what it had seen before it had that row. */
  rows: z.array(
    z.object({
      id: z.string(),
      row: z.number().int().min(0),
      before: z.object({ matched: count, dropped: count }),
    }),
  ),
  /** Rules of the NIC that were made for them. */
  nic: z
    .array(
      z.object({
        id: z.string(),
        location: z.number().int().min(0),
        spec: z.string().regex(/^[0-9a-f]{336}$/),
      }),
    )
    .default([]),
});

export interface SavedRules {
  readonly version: 1;
  readonly rules: readonly Rule[];
  readonly rows: z.output<typeof schema>['rows'];
  readonly nic: z.output<typeof schema>['nic'];
}

/** The rules that a daemon had; undefined when there are none, or none that can be read. */
export function readRules(path: string): SavedRules | undefined {
  try {
    return schema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}

/** Writes them in one step: a reader finds the old ones or the new ones. */
export function writeRules(path: string, saved: SavedRules): void {
  const fresh = `${path}.new`;
  writeFileSync(fresh, JSON.stringify(saved), { mode: 0o600 });
  renameSync(fresh, path);
}

export function removeRules(path: string): void {
  rmSync(path, { force: true });
}
