import { type KV, Kvm } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { z } from 'zod';
import { SluiceError } from '../base/errors.ts';
import { keysOf } from './nats-keys.ts';
import { atServer, type NatsPlace } from './nats-place.ts';
import { putBundle } from './nats-programs.ts';
import { keyOf } from './nats-source.ts';
import { isBundle } from './program-bundle.ts';
import { MAX_LINE, readEnvelope } from './statement.ts';

/** What stands for compiled programs among the ids of what was published: no rule is called so. */
export const PROGRAMS = '(programs)';
/** Of a compare-and-set that somebody else was faster with. */
const ATTEMPTS = 10;
/** Results of edges that are gone. */
const RESULTS_MS = 86_400_000;

/** @see ProgramsHere */
export const programsHere = z.object({
  /** The newest that it has taken from a trusted desk; null: none came. */
  from: z.object({ key: z.string(), revision: z.number(), hash: z.string(), rules: z.number() }).nullable(),
  /** Rules in force that are in them, and those that were compiled there. */
  taken: z.number(),
  here: z.number(),
  /** Why it has compiled all of them nevertheless, or has not taken what came last. */
  why: z.string().nullable(),
});

const resultSchema = z.object({
  node: z.string(),
  interface: z.string(),
  site: z.string().nullable(),
  roles: z.array(z.string()),
  /** All that has come to the gate; null: it is not told. */
  seen: z.object({ pkts: z.number(), bytes: z.number() }).nullable().default(null),
  /** Seconds since 1970. */
  ts: z.number(),
  rules: z.array(
    z.object({
      id: z.string(),
      revision: z.number(),
      state: z.enum(['in force', 'refused', 'removed here', 'waiting', 'not for here']),
      why: z.string().nullable(),
      matched: z.object({ pkts: z.number(), bytes: z.number() }),
      dropped: z.object({ pkts: z.number(), bytes: z.number() }),
    }),
  ),
  /** Lines that did not count. */
  refused: z.array(
    z.object({ where: z.string(), id: z.string().nullable(), refused: z.string(), why: z.string() }),
  ),
  /** Null: it compiles for itself. */
  programs: programsHere.nullable().default(null),
});
/** Whose programs an edge runs. */
export type ProgramsHere = z.output<typeof programsHere>;
/** What an edge says of its rules. */
export type EdgeResult = z.output<typeof resultSchema>;

/** The author's side of a fleet. */
export class NatsDesk {
  readonly #place: NatsPlace;

  constructor(place: NatsPlace) {
    this.#place = place;
  }

  async #with<T>(work: (kvm: Kvm, connection: NatsConnection) => Promise<T>): Promise<T> {
    const help = 'is the server there, with JetStream (nats-server -js)?';
    return await atServer(this.#place, help, (connection) => work(new Kvm(connection), connection));
  }

  /**
   * Puts signed rules where edges read them; the buckets are made when they are not there. What is there with a higher revision
   * stays. Answers ids. @throws SluiceError FILE_FORMAT, FLEET
   */
  async publish(lines: readonly string[]): Promise<{ published: string[]; older: string[] }> {
    const bundles = lines.filter(isBundle);
    const rules = lines
      .filter((text) => !isBundle(text))
      .map((text) => {
        const { id, revision } = readEnvelope(text)?.signed ?? {};
        if (typeof id !== 'string' || typeof revision !== 'number')
          throw new SluiceError('FILE_FORMAT', 'that is not a signed rule', {
            help: 'sluice rule sign makes them',
          });
        return { id, revision, text };
      });
    return await this.#with(async (kvm) => {
      const bucket = await kvm.create(this.#place.rules, { history: 1, maxValueSize: MAX_LINE });
      await kvm.create(this.#place.results, { history: 1, ttl: RESULTS_MS });
      const published: string[] = [];
      const older: string[] = [];
      // Before the rules that are in them.
      const programs = await kvm.create(this.#place.programs, { history: 1 });
      for (const text of bundles) ((await putBundle(programs, text)) ? published : older).push(PROGRAMS);
      for (const { id, revision, text } of rules)
        ((await putNewer(bucket, id, revision, text)) ? published : older).push(id);
      return { published, older };
    });
  }

  /** All signed rules that are there, as lines. @throws SluiceError FLEET */
  async lines(): Promise<string[]> {
    return await this.#with(async (kvm, connection) => {
      const bucket = await kvm.open(this.#place.rules);
      const found: string[] = [];
      for (const key of await keysOf(connection, this.#place.rules)) {
        const entry = await bucket.get(key);
        if (entry?.operation === 'PUT') found.push(entry.string());
      }
      return found;
    });
  }

  /** Of statements about these ids that are there, by id. @throws SluiceError FLEET */
  async revisions(ids: readonly string[]): Promise<Map<string, number>> {
    return await this.#with(async (kvm) => {
      const bucket = await kvm.open(this.#place.rules);
      const found = new Map<string, number>();
      for (const id of ids) {
        const revision = readEnvelope((await bucket.get(keyOf(id)))?.string() ?? '')?.signed['revision'];
        if (typeof revision === 'number') found.set(id, revision);
      }
      return found;
    });
  }

  /** Tells what each edge has told, and tells from now on, until it is stopped. @throws SluiceError FLEET */
  async follow(told: (edge: EdgeResult) => void, stop: AbortSignal): Promise<void> {
    await this.#with(async (kvm, connection) => {
      const watch = await (await kvm.open(this.#place.results)).watch();
      const end = (): void => watch.stop();
      stop.addEventListener('abort', end, { once: true });
      if (stop.aborted) end();
      void connection.closed().then(end);
      for await (const entry of watch) {
        const read = resultSchema.safeParse(jsonOf(entry.string()));
        if (read.success) told(read.data);
      }
      if (!stop.aborted) throw new Error('the connection was closed');
    });
  }

  /** What edges have told, by their names. @throws SluiceError FLEET */
  async results(): Promise<EdgeResult[]> {
    return await this.#with(async (kvm, connection) => {
      const bucket = await kvm.open(this.#place.results);
      const found: EdgeResult[] = [];
      for (const key of await keysOf(connection, this.#place.results)) {
        const entry = await bucket.get(key);
        const read = resultSchema.safeParse(jsonOf(entry?.string() ?? ''));
        if (read.success) found.push(read.data);
      }
      return found.sort((a, b) => (`${a.node} ${a.interface}` < `${b.node} ${b.interface}` ? -1 : 1));
    });
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** False when a newer one is there, or the same. */
async function putNewer(bucket: KV, id: string, revision: number, text: string): Promise<boolean> {
  const key = keyOf(id);
  for (let attempt = 1; ; attempt++) {
    const there = await bucket.get(key);
    const before = readEnvelope(there?.string() ?? '')?.signed['revision'];
    if (there?.operation === 'PUT' && typeof before === 'number' && before >= revision) return false;
    try {
      if (there === null) await bucket.create(key, text);
      else await bucket.update(key, text, there.revision);
      return true;
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
    }
  }
}
