import { z } from 'zod';
import { programsHere } from '../fleet/nats-desk.ts';
import type { LiveRun } from '../sensor/live.ts';

const line = z.object({
  where: z.string(),
  id: z.string().nullable(),
  refused: z.string(),
  why: z.string(),
});

/** As `fleet` of `sluice gate status --json` (docs/fleet.md), by interface. */
export const fleetShape = z.array(
  z.object({
    interface: z.string(),
    source: z.string(),
    connected: z.boolean(),
    age: z.number().nullable().describe('seconds since the source was last heard of; null: never'),
    problem: z.string().nullable(),
    rules: z.number().describe('that hold, for any gate'),
    accepted: z.number(),
    refused: z.number(),
    lines: z.array(line).describe('the last that did not count'),
    inForce: z.number(),
    bad: z.array(z.object({ id: z.string(), revision: z.number(), why: z.string() })),
    programs: programsHere.nullable().describe('whose compiled programs run; null: its own, always'),
  }),
);

/** Of the gates of a run that follow signed rules. */
export function fleetOf(run: LiveRun): z.output<typeof fleetShape> {
  return run.gates().flatMap(({ name, fleet }) => (fleet === null ? [] : [{ interface: name, ...fleet }]));
}
