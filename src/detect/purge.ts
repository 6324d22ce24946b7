import { jetstreamManager } from '@nats-io/jetstream';
import type { Lifeline } from './connected.ts';

/** Seconds behind the expiry of what a key says: nothing that detectors have signed for it before lives as long. */
export const OVER_AFTER = 3600;
/** Keys in one go. */
const MOST = 1000;

/** A key of the bucket of rules whose statement has been over for long, and its sequence there. */
export interface OverKey {
  readonly key: string;
  readonly sequence: number;
}

/**
 * Takes keys out of the bucket of rules, without leaving marks of it there: their number would only grow. What has been written
 * meanwhile stays. Answers those that are gone. @throws Error
 */
export async function purgeKeys(
  line: Lifeline,
  bucket: string,
  keys: readonly OverKey[],
): Promise<OverKey[]> {
  const manager = await line.until(jetstreamManager(line.connection));
  const gone: OverKey[] = [];
  for (const over of keys.slice(0, MOST)) {
    const filter = `$KV.${bucket}.${over.key}`;
    const done = await line.until(
      manager?.streams.purge(`KV_${bucket}`, { filter, seq: over.sequence + 1 }) ??
        Promise.resolve(undefined),
    );
    if (done === undefined) break;
    gone.push(over);
  }
  return gone;
}
