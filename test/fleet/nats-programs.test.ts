import type { KV, Kvm, KvWatchEntry } from '@nats-io/kv';
import { describe, expect, test } from 'vitest';
import { generateKeys, readSigningKey } from '../../src/fleet/keys.ts';
import { bundleOf, HEAD, ProgramWatch, putBundle } from '../../src/fleet/nats-programs.ts';
import { isBundle, readBundle } from '../../src/fleet/program-bundle.ts';
import { signatureOf } from '../../src/fleet/signature.ts';

const nothing = (): void => {};
const key = readSigningKey(generateKeys('desk').privatePem, 'desk.key');

/** A line of programs as large as they come: nobody looks at what it holds here. */
function lineOf(revision: number, size: number): string {
  const signed = { revision };
  const line = { code: 'A'.repeat(size), constants: '', signed, ...signatureOf('x', signed, key) };
  const { code, constants, key: id, signature } = line;
  return JSON.stringify({ code, constants, key: id, signature, signed });
}

type Stored = Pick<KvWatchEntry, 'key' | 'operation' | 'revision' | 'value' | 'string'>;

/** A bucket in memory: what of NATS is used. */
class Bucket {
  readonly entries = new Map<string, Stored>();
  #revision = 0;
  #told: (entry: Stored) => void = nothing;

  get(name: string): Promise<Stored | null> {
    return Promise.resolve(this.entries.get(name) ?? null);
  }

  #store(name: string, operation: 'PUT' | 'PURGE', text: string): Promise<number> {
    const value = Buffer.from(text);
    const entry = { key: name, operation, revision: ++this.#revision, value, string: () => text };
    this.entries.set(name, entry);
    if (name === HEAD) this.#told(entry);
    return Promise.resolve(entry.revision);
  }

  put(name: string, text: string): Promise<number> {
    return this.#store(name, 'PUT', text);
  }

  create(name: string, text: string): Promise<number> {
    return this.entries.has(name) ? Promise.reject(new Error('it is there')) : this.put(name, text);
  }

  update(name: string, text: string, revision: number): Promise<number> {
    return this.entries.get(name)?.revision === revision
      ? this.put(name, text)
      : Promise.reject(new Error('somebody was faster'));
  }

  async purge(name: string): Promise<void> {
    await this.#store(name, 'PURGE', '');
  }

  watch(): Promise<AsyncIterable<Stored> & { stop: () => void }> {
    const waiting: Stored[] = [];
    let stopped = false;
    let wake = nothing;
    this.#told = (entry) => {
      waiting.push(entry);
      wake();
    };
    const read = async function* () {
      for (;;) {
        for (let entry = waiting.shift(); entry !== undefined; entry = waiting.shift()) yield entry;
        if (stopped) return;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    };
    const stop = (): void => {
      stopped = true;
      wake();
    };
    return Promise.resolve(Object.assign(read(), { stop }));
  }

  get asKv(): KV {
    return this as unknown as KV;
  }
}

const headOf = (bucket: Bucket): string | undefined => bucket.entries.get(HEAD)?.string();

describe('programs in a bucket', () => {
  test('go in parts that a server takes, and come back as they were', async () => {
    const bucket = new Bucket();
    const line = lineOf(5, 1_300_000);
    expect(isBundle(line)).toBe(true);
    expect(readBundle(line)?.signed).toEqual({ revision: 5 });
    expect(await putBundle(bucket.asKv, line)).toBe(true);
    expect(bucket.entries.size).toBe(4);
    for (const { value } of bucket.entries.values()) expect(value.length).toBeLessThanOrEqual(512 << 10);
    expect(await bundleOf(bucket.asKv, headOf(bucket))).toBe(line);
  });

  test('newer ones take the place of older ones, never the other way', async () => {
    const bucket = new Bucket();
    const line = lineOf(5, 600_000);
    expect(await putBundle(bucket.asKv, line)).toBe(true);
    expect(await putBundle(bucket.asKv, line)).toBe(false);
    expect(await putBundle(bucket.asKv, lineOf(4, 10))).toBe(false);
    const old = headOf(bucket);
    expect(await putBundle(bucket.asKv, lineOf(6, 10))).toBe(true);
    expect(await bundleOf(bucket.asKv, headOf(bucket))).toBe(lineOf(6, 10));
    // Whoever still holds the head of before finds that its parts are gone.
    expect(await bundleOf(bucket.asKv, old)).toBeUndefined();
    await bucket.purge(HEAD);
    expect(await putBundle(bucket.asKv, lineOf(1, 10))).toBe(true);
  });

  test('a head that is none, or says too much', async () => {
    const bucket = new Bucket();
    for (const text of [undefined, '', '{', '{}', '[1]', '{"revision":1,"line":"../..","parts":1}'])
      expect(await bundleOf(bucket.asKv, text)).toBeUndefined();
    const many = JSON.stringify({ revision: 1, line: '0123456789abcdef', parts: 1e6 });
    expect(await bundleOf(bucket.asKv, many)).toBeUndefined();
    await bucket.put('0123456789abcdef_0', 'A'.repeat(600_000));
    const large = JSON.stringify({ revision: 1, line: '0123456789abcdef', parts: 1 });
    expect(await bundleOf(bucket.asKv, large)).toBeUndefined();
    await expect(putBundle(bucket.asKv, '{"code":"x"}')).rejects.toThrow('not a signed program');
  });

  test('are handed on once, what is there first, then what comes', async () => {
    const bucket = new Bucket();
    let there = false;
    const kvm = {
      open: () => (there ? Promise.resolve(bucket.asKv) : Promise.reject(new Error('no such stream'))),
    } as unknown as Kvm;
    const got: string[] = [];
    let wake = nothing;
    const watch = new ProgramWatch(kvm, 'f_programs', {
      lines: (lines) => {
        got.push(...lines.map(({ where, text }) => `${where} ${JSON.stringify(readBundle(text)?.signed)}`));
        wake();
        return Promise.resolve();
      },
    });
    await watch.look();
    await putBundle(bucket.asKv, lineOf(1, 10));
    there = true;
    // Not with each look.
    for (let n = 0; n < 20; n++) await watch.look();
    expect(got).toEqual(['f_programs/head {"revision":1}']);
    const second = new Promise<void>((resolve) => (wake = resolve));
    await putBundle(bucket.asKv, lineOf(2, 600_000));
    await second;
    await watch.close();
    expect(got).toEqual(['f_programs/head {"revision":1}', 'f_programs/head {"revision":2}']);
  });
});
