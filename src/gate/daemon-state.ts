import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import type { Place } from './control-places.ts';

/** What a daemon leaves for whoever comes after it: the next daemon, and `gate status` while there is none. */
const schema = z.object({
  version: z.literal(1),
  /** Those of one gate share its tables. */
  interfaces: z.array(
    z.object({
      interface: z.string(),
      ifindex: z.number(),
      mode: z.string(),
      modeReason: z.string().nullable(),
    }),
  ),
  pid: z.number(),
  /** `sluice run` drives it: when that process has ended, nothing is attached any more. */
  driven: z.boolean().optional(),
  vlanKey: z.boolean(),
  logDir: z.string(),
  /** Where it has pinned tables of other sensors. */
  peers: z.array(z.string()).optional(),
  owners: z.array(
    z.object({
      name: z.string(),
      slot: z.number().int().min(1).max(255),
      uid: z.number().or(z.undefined()),
      lease: z.union([z.number(), z.literal('off')]),
      idle: z.union([z.number(), z.literal('off')]),
      maxEntries: z.number(),
    }),
  ),
});

export type DaemonState = z.output<typeof schema>;

/** The state file of a gate; undefined when there is none, or none that can be read. */
export function readState(place: Pick<Place, 'state'>): DaemonState | undefined {
  try {
    return schema.parse(JSON.parse(readFileSync(place.state, 'utf8')));
  } catch {
    return undefined;
  }
}

/** Writes it in one step: a reader finds the old one or the new one. By it whoever may use the socket finds that, so all may read it. */
export function writeState(place: Place, state: DaemonState): void {
  const fresh = `${place.state}.new`;
  writeFileSync(fresh, JSON.stringify(state));
  // Whatever the umask is.
  chmodSync(fresh, 0o644);
  renameSync(fresh, place.state);
}

/** Removes what a daemon leaves in /run/sluice beside its lock. */
export function removeState(place: Place): void {
  rmSync(place.state, { force: true });
  rmSync(place.socket, { force: true });
  rmSync(place.rules, { force: true });
  rmSync(place.baseline, { force: true });
  rmSync(place.attacks, { force: true });
}
