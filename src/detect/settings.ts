import type { KV } from '@nats-io/kv';
import { z } from 'zod';
import { SluiceError } from '../base/errors.ts';
import { MAX_PARTITIONS } from './partition.ts';

const KEY = 'fleet';

const schema = z.object({
  version: z.literal(1),
  /** Never changed: whoever hashes otherwise sends elsewhere. */
  partitions: z.number().int().min(1).max(MAX_PARTITIONS),
});
/** What all of a fleet have agreed on. */
export type FleetSettings = z.output<typeof schema>;

/** Undefined while nobody has set them. @throws SluiceError FLEET for those of another version */
export async function readSettings(bucket: KV): Promise<FleetSettings | undefined> {
  const entry = await bucket.get(KEY);
  if (entry === null || entry.operation !== 'PUT') return undefined;
  try {
    return schema.parse(JSON.parse(entry.string()));
  } catch (cause) {
    throw new SluiceError('FLEET', `${entry.bucket} is of another version`, { cause });
  }
}

/** What is set already, else this; of several who set it at once the first wins. @throws SluiceError FLEET */
export async function agreeSettings(bucket: KV, partitions: number): Promise<FleetSettings> {
  const there = await readSettings(bucket);
  if (there !== undefined) return there;
  try {
    await bucket.create(KEY, JSON.stringify({ version: 1, partitions } satisfies FleetSettings));
  } catch {
    // Somebody was faster.
  }
  const agreed = await readSettings(bucket);
  if (agreed === undefined) throw new SluiceError('FLEET', 'the fleet has no settings');
  return agreed;
}
