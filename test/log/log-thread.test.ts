import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LinkTarget } from '../../src/log/log-link.ts';
import { LogThread } from '../../src/log/log-thread.ts';
import { CHUNK_BYTES, LogWriter } from '../../src/log/log-writer.ts';
import type { LogName, LogTarget } from '../../src/log/target.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-thread-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const path = (name: string) => join(dir, `${name}.log`);
const lines = (name: string) => readFileSync(path(name), 'utf8').split('\n').slice(0, -1);

/** Blocks this thread, event loop and all. */
const block = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

const WRITER = `
  import { workerData, parentPort } from 'node:worker_threads';
  const { LinkTarget } = await import(workerData.base + 'log-link.ts');
  const { LogWriter } = await import(workerData.base + 'log-writer.ts');
  const target = new LinkTarget(workerData.link);
  const writer = new LogWriter(target);
  for (let n = 0; n < workerData.count; n++) writer.write('conn', workerData.name + ' ' + n + ' ' + '.'.repeat(200));
  writer.flush();
  target.close();
  parentPort.postMessage({ lost: target.lost });
`;

function startWriter(thread: LogThread, name: string, count: number): Worker {
  const link = thread.link();
  return new Worker(new URL(`data:text/javascript,${encodeURIComponent(WRITER)}`), {
    workerData: { base: new URL('../../src/log/', import.meta.url).href, link, name, count },
    transferList: [link.port],
  });
}

const told = (worker: Worker) =>
  new Promise<{ lost: number }>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });

describe('the log thread', () => {
  it('writes what workers send, each in its order, and nothing is lost at the end', async () => {
    const thread = await LogThread.start({ dir });
    const workers = ['a', 'b', 'c'].map((name) => startWriter(thread, name, 5000));
    expect(await Promise.all(workers.map(told))).toEqual([{ lost: 0 }, { lost: 0 }, { lost: 0 }]);
    expect(await thread.close()).toMatchObject({ lines: 15_000, lost: 0, waiting: 0 });
    await Promise.all(workers.map((worker) => worker.terminate()));
    const seen = new Map<string, number[]>();
    for (const line of lines('conn')) {
      const [name, n] = line.split(' ') as [string, string];
      seen.set(name, [...(seen.get(name) ?? []).slice(-1), Number(n)]);
      const [before, now] = seen.get(name) as number[];
      if (now !== undefined) expect(now).toBe(before + 1);
    }
    expect([...seen.values()].map((last) => last.at(-1))).toEqual([4999, 4999, 4999]);
  });

  it('goes on while the main thread is blocked', async () => {
    const thread = await LogThread.start({ dir });
    const worker = startWriter(thread, 'w', 20_000);
    let written = 0;
    // No turn of the event loop from here on: only the worker and the log thread run.
    for (let n = 0; n < 1200 && written < 20_000; n++) {
      block(50);
      try {
        written = lines('conn').length;
      } catch {
        written = 0;
      }
    }
    expect(written).toBe(20_000);
    await told(worker);
    expect(await thread.close()).toMatchObject({ lines: 20_000, lost: 0 });
    await worker.terminate();
  });

  it('flushes what was sent before, from this thread too', async () => {
    const thread = await LogThread.start({ dir });
    const target = new LinkTarget(thread.link());
    const writer = new LogWriter(target);
    writer.write('stats', '{"n":1}');
    writer.flush();
    expect(await thread.flush()).toMatchObject({ lines: 1, bytes: 8 });
    expect(lines('stats')).toEqual(['{"n":1}']);
    expect(target.underWay).toBe(0);
    expect(target.peak).toBe(8);
    target.close();
    await thread.close();
  });

  it('tells what it has repaired and why it cannot start', async () => {
    writeFileSync(path('conn'), 'whole\ntorn');
    const thread = await LogThread.start({ dir });
    expect(thread.torn).toEqual([{ path: path('conn'), bytes: 4 }]);
    await thread.close();
    await expect(LogThread.start({ dir: path('conn') })).rejects.toMatchObject({
      code: 'FILE',
      help: expect.stringContaining('--log-dir'),
    });
  });

  it('says when the disk fails; lines that it could not write are counted at the end', async () => {
    const problems: (string | undefined)[] = [];
    writeFileSync(join(dir, 'x'), '');
    const { symlinkSync } = await import('node:fs');
    symlinkSync('/dev/full', path('conn'));
    const thread = await LogThread.start({ dir }, (problem) => problems.push(problem));
    const target = new LinkTarget(thread.link());
    target.append('conn', Buffer.from('one\ntwo\n'), 2);
    expect(await thread.flush()).toMatchObject({ lines: 0, waiting: 2 });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain('ENOSPC');
    target.close();
    expect(await thread.close()).toMatchObject({ lines: 0, lost: 2 });
  });

  it('refuses questions after its end', async () => {
    const thread = await LogThread.start({ dir });
    await thread.close();
    await expect(thread.flush()).rejects.toMatchObject({ code: 'CLOSED' });
    // Closing twice is closing once.
    await thread.close();
  });

  it('that does not keep up costs counted lines, never memory without bound', async () => {
    const thread = await LogThread.start({ dir });
    const link = thread.link();
    const target = new LinkTarget(link, 1000);
    const line = Buffer.from(`${'x'.repeat(99)}\n`);
    // The count of taken bytes moves only when the thread gets to it; stop it from being seen at all.
    const held = new LinkTarget({ port: link.port, books: new SharedArrayBuffer(8) }, 1000);
    for (let n = 0; n < 15; n++) held.append('conn', line, 1);
    expect(held.lost).toBe(5);
    expect(held.peak).toBe(1000);
    expect(held.underWay).toBe(1000);
    target.append('conn', line, 1);
    expect(target.lost).toBe(0);
    target.close();
    expect(await thread.close()).toMatchObject({ lines: 11 });
  });

  it('lines of some logs come to who watches as well, and to nobody once that is over', async () => {
    const thread = await LogThread.start({ dir });
    const target = new LinkTarget(thread.link());
    const seen: [LogName, string, number][] = [];
    const watch = thread.watch(['conn', 'notice'], (log, bytes, count) =>
      seen.push([log, Buffer.from(bytes).toString(), count]),
    );
    target.append('conn', Buffer.from('a\nb\n'), 2);
    target.append('ssl', Buffer.from('c\n'), 1);
    target.append('notice', Buffer.from('d\n'), 1);
    await thread.flush();
    // What is in the files has come, at the latest when it ends.
    watch.close();
    expect(seen).toEqual([
      ['conn', 'a\nb\n', 2],
      ['notice', 'd\n', 1],
    ]);
    expect(watch.skipped).toBe(0);
    target.append('conn', Buffer.from('e\n'), 1);
    target.close();
    expect(await thread.close()).toMatchObject({ lines: 5, lost: 0 });
    expect(seen).toHaveLength(2);
  });

  it('who watches and does not take costs the files nothing, and knows how much it has missed', async () => {
    const thread = await LogThread.start({ dir });
    const target = new LinkTarget(thread.link());
    let seen = 0;
    const watch = thread.watch(['conn'], (_, __, count) => {
      seen += count;
    });
    const chunk = Buffer.from(`${'x'.repeat(1023)}\n`.repeat(256));
    for (let n = 0; n < 20; n++) target.append('conn', chunk, 256);
    // This thread takes nothing until the others are done.
    const began = Date.now();
    while (target.underWay > 0 && Date.now() - began < 60_000) block(5);
    expect(target.underWay).toBe(0);
    watch.close();
    expect(watch.skipped).toBeGreaterThan(0);
    expect(seen + watch.skipped).toBe(20 * 256);
    target.close();
    expect(await thread.close()).toMatchObject({ lines: 20 * 256, lost: 0 });
  });
});

describe('the log writer', () => {
  class Collected implements LogTarget {
    readonly lost = 0;
    readonly chunks: { log: LogName; text: string; count: number }[] = [];
    append(log: LogName, chunk: Uint8Array, count: number): void {
      this.chunks.push({ log, text: Buffer.from(chunk).toString(), count });
    }
  }

  it('hands on whole lines in pieces of at most 64 KiB, in order', () => {
    const target = new Collected();
    const writer = new LogWriter(target);
    const wanted = Array.from({ length: 3000 }, (_, n) => `${n} ${'é🙂'.repeat(n % 40)}`);
    for (const line of wanted) writer.write('conn', line);
    writer.flush();
    writer.flush();
    expect(target.chunks.map((chunk) => chunk.text).join('')).toBe(
      wanted.map((line) => `${line}\n`).join(''),
    );
    for (const { text, count } of target.chunks) {
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(CHUNK_BYTES);
      expect(text.split('\n')).toHaveLength(count + 1);
    }
    expect(target.chunks.length).toBeLessThan(8);
    expect(writer.lines).toBe(3000);
  });

  it('keeps a line that is longer than a piece whole and in its place', () => {
    const target = new Collected();
    const writer = new LogWriter(target);
    for (const length of [1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES, 2])
      writer.write('conn', 'x'.repeat(length));
    writer.flush();
    const lengths = target.chunks.flatMap(({ text }) =>
      text
        .split('\n')
        .slice(0, -1)
        .map((line) => line.length),
    );
    expect(lengths).toEqual([1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES, 2]);
  });

  it('keeps logs apart', () => {
    const target = new Collected();
    const writer = new LogWriter(target);
    writer.write('conn', 'c');
    writer.write('shunt', 's');
    writer.write('conn', 'c');
    writer.flush();
    expect(target.chunks).toEqual([
      { log: 'conn', text: 'c\nc\n', count: 2 },
      { log: 'shunt', text: 's\n', count: 1 },
    ]);
  });
});
