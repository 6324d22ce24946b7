import { createHash } from 'node:crypto';
import type { KV, Kvm, KvWatchEntry } from '@nats-io/kv';
import { z } from 'zod';
import { SluiceError } from '../base/errors.ts';
import { MAX_BUNDLE, readBundle } from './program-bundle.ts';
import type { SourceSink } from './source.ts';

/** Characters of a part: below what a server takes in one message (1 MiB unless it says otherwise). */
const PART = 512 << 10;
const MOST_PARTS = MAX_BUNDLE / PART;
/** The key that says what the parts are; it comes after them. */
export const HEAD = 'head';
/** Of a compare-and-set that somebody else was faster with. */
const ATTEMPTS = 10;

const head = z.strictObject({
  revision: z.number().int().positive(),
  /** SHA-256 of the whole line, 16 hexadecimal digits: what its parts are called by. */
  line: z.string().regex(/^[0-9a-f]{16}$/),
  parts: z.number().int().min(1).max(MOST_PARTS),
});
type Head = z.output<typeof head>;

const partOf = (line: string, n: number): string => `${line}_${n}`;

function readHead(text: string | undefined): Head | undefined {
  try {
    return head.safeParse(JSON.parse(text ?? '')).data;
  } catch {
    return undefined;
  }
}

/** Puts signed programs into a bucket, in the place of older ones. False when newer ones are there, or the same. @throws SluiceError FILE_FORMAT */
export async function putBundle(bucket: KV, text: string): Promise<boolean> {
  const revision = readBundle(text)?.signed['revision'];
  if (typeof revision !== 'number')
    throw new SluiceError('FILE_FORMAT', 'that is not a signed program', {
      help: 'sluice rule compile makes them',
    });
  const line = createHash('sha256').update(text).digest('hex').slice(0, 16);
  const parts = Math.ceil(text.length / PART);
  for (let attempt = 1; ; attempt++) {
    const there = await bucket.get(HEAD);
    const before = readHead(there?.string());
    if (before !== undefined && before.revision >= revision) return false;
    for (let n = 0; n < parts; n++) await bucket.put(partOf(line, n), text.slice(n * PART, (n + 1) * PART));
    const said = JSON.stringify({ revision, line, parts } satisfies Head);
    try {
      if (there === null) await bucket.create(HEAD, said);
      else await bucket.update(HEAD, said, there.revision);
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      continue;
    }
    // Who still reads the parts of before asks again with the next head.
    if (before !== undefined && before.line !== line)
      for (let n = 0; n < before.parts; n++) await bucket.purge(partOf(before.line, n));
    return true;
  }
}

/** The signed programs that a head stands for; undefined: they are not all there. */
export async function bundleOf(bucket: KV, text: string | undefined): Promise<string | undefined> {
  const said = readHead(text);
  if (said === undefined) return undefined;
  let whole = '';
  for (let n = 0; n < said.parts; n++) {
    const part = await bucket.get(partOf(said.line, n));
    if (part === null || part.operation !== 'PUT' || part.value.length > PART) return undefined;
    whole += part.string();
  }
  return whole;
}

/** Looks of which one asks anew for a bucket that was not there. */
const ASK_AGAIN = 10;

/** Hands signed programs of a bucket to a sink, now and whenever there are others. */
export class ProgramWatch {
  readonly #kvm: Kvm;
  readonly #name: string;
  readonly #sink: Pick<SourceSink, 'lines'>;
  #known = '';
  #looks = 0;
  #looking = false;
  #watch: { stop: () => void } | undefined;
  #work: Promise<void> | undefined;

  constructor(kvm: Kvm, name: string, sink: Pick<SourceSink, 'lines'>) {
    this.#kvm = kvm;
    this.#name = name;
    this.#sink = sink;
  }

  /** Begins to watch, once what is there has been handed on; does nothing while it watches. Never throws: rules do not need it. */
  async look(): Promise<void> {
    if (this.#watch !== undefined || this.#looking || this.#looks++ % ASK_AGAIN !== 0) return;
    this.#looking = true;
    try {
      const bucket = await this.#kvm.open(this.#name);
      await this.#hand(bucket, (await bucket.get(HEAD))?.string());
      const watch = await bucket.watch({ key: HEAD });
      this.#watch = watch;
      this.#work = this.#read(bucket, watch);
    } catch {
      // No such bucket, or not for us.
    }
    this.#looking = false;
  }

  async #read(bucket: KV, watch: AsyncIterable<KvWatchEntry>): Promise<void> {
    try {
      for await (const entry of watch)
        if (entry.operation === 'PUT') await this.#hand(bucket, entry.string());
    } catch {
      // It is asked for again.
    }
    this.#watch = undefined;
  }

  async #hand(bucket: KV, said: string | undefined): Promise<void> {
    if (said === undefined || said === this.#known) return;
    const text = await bundleOf(bucket, said);
    if (text === undefined) return;
    this.#known = said;
    await this.#sink.lines([{ where: `${this.#name}/${HEAD}`, text }]);
  }

  async close(): Promise<void> {
    this.#watch?.stop();
    await this.#work;
  }
}
