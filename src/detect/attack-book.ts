import { type KV, Kvm } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { z } from 'zod';
import { keysOf } from '../fleet/nats-keys.ts';
import type { Lifeline } from './connected.ts';

/** What `attack ls` needs of an attack; the rest is for people. */
const schema = z.looseObject({
  id: z.string(),
  partition: z.string(),
  kind: z.string(),
  target: z.string(),
  began: z.number(),
  ended: z.number().nullable(),
  peak: z.number(),
  attack: z.boolean(),
  surprise: z.string().nullable(),
  why: z.string(),
  uncovered: z.number(),
  dryRun: z.boolean(),
  rules: z.array(z.looseObject({ id: z.string(), expr: z.string(), action: z.string(), covers: z.number() })),
});
/** An attack as detectors tell of it. */
export type AttackDocument = z.output<typeof schema>;

/** Milliseconds that attacks are remembered. */
export const ATTACKS_MS = 7 * 86_400_000;
const MAX_VALUE = 256 << 10;
export const ATTACKS_BUCKET = { history: 1, ttl: ATTACKS_MS, maxValueSize: MAX_VALUE } as const;

const OPEN = 'open';
const DONE = 'done';
const keyIn = (state: string, { partition, id }: Pick<AttackDocument, 'partition' | 'id'>): string =>
  `${state}.${partition}.${id}`;

export function readAttack(text: string): AttackDocument | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** The attacks in a bucket that keys (a filter of subjects) name, the first one first. */
export async function attacksIn(
  connection: NatsConnection,
  bucket: string,
  filter = '>',
): Promise<AttackDocument[]> {
  const kv = await new Kvm(connection).open(bucket);
  // Other things stand beside them.
  const keys = (await keysOf(connection, bucket, filter)).filter(
    (key) => key.startsWith(`${OPEN}.`) || key.startsWith(`${DONE}.`),
  );
  const entries = await Promise.all(keys.map((key) => kv.get(key)));
  return entries
    .flatMap((entry) => readAttack(entry?.string() ?? '') ?? [])
    .sort((a, b) => a.began - b.began);
}

/** Tells of attacks in a bucket of the fleet, as far as there is one; what was not told is told later, as it is then. */
export class AttackBook {
  readonly #unsaved = new Map<string, AttackDocument>();
  readonly #warn: (text: string) => void;
  #bucket: { readonly line: Lifeline; readonly kv: KV; readonly name: string } | undefined;
  #working = false;

  constructor(warn: (text: string) => void) {
    this.#warn = warn;
  }

  /** @param name of the bucket */
  attach(line: Lifeline, kv: KV, name: string): void {
    this.#bucket = { line, kv, name };
    this.#save();
  }

  put(document: AttackDocument): void {
    this.#unsaved.set(document.id, document);
    this.#save();
  }

  /** Attacks of a partition that nobody has seen the end of. */
  async open(partition: string): Promise<AttackDocument[]> {
    if (this.#bucket === undefined) return [];
    const { line, name } = this.#bucket;
    return await attacksIn(line.connection, name, `${OPEN}.${partition}.>`);
  }

  #save(): void {
    if (this.#working) return;
    this.#working = true;
    this.#work()
      .catch((error: Error) => this.#warn(`attacks cannot be told of: ${error.message}`))
      .finally(() => {
        this.#working = false;
      });
  }

  async #work(): Promise<void> {
    for (;;) {
      const [next] = this.#unsaved.values();
      const bucket = this.#bucket;
      if (next === undefined || bucket === undefined || bucket.line.ended) return;
      const state = next.ended === null ? OPEN : DONE;
      const done = await bucket.line.until(bucket.kv.put(keyIn(state, next), JSON.stringify(next)));
      if (done === undefined) return;
      if (this.#unsaved.get(next.id) === next) this.#unsaved.delete(next.id);
      if (state === DONE) await bucket.line.until(bucket.kv.purge(keyIn(OPEN, next)));
    }
  }
}
