import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import type { SluiceError } from '../../src/base/errors.ts';
import { FollowSource } from '../../src/capture/follow.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { pcapngFile } from '../../src/packet/pcapng-writer.ts';

let dir: string;
let source: FollowSource | undefined;
let files: [string, SluiceError | undefined][];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-follow-'));
  files = [];
});
afterEach(() => {
  source?.close();
  source = undefined;
  rmSync(dir, { recursive: true, force: true });
});

const frames = (...ids: number[]) => ids.map((id) => ({ ts: 1000 + id, bytes: Uint8Array.of(id, 1, 2, 3) }));
const file = (...ids: number[]) => pcapFile(frames(...ids));
/** The records alone. */
const records = (...ids: number[]) => file(...ids).subarray(24);

function put(name: string, bytes: Uint8Array, changed?: number): string {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  if (changed !== undefined) utimesSync(path, changed, changed);
  return path;
}

/** Patient enough that nothing ends by itself, unless told. */
function follow(settleMs = 20, patienceMs = 60_000): FollowSource {
  source = new FollowSource(dir, {
    pollMs: 5,
    settleMs,
    patienceMs,
    onFile: (path, problem) => files.push([path.slice(dir.length + 1), problem]),
  });
  return source;
}

/** First bytes of packets until there are so many; fails when more come than that. */
async function ids(from: FollowSource, count: number): Promise<number[]> {
  const out: number[] = [];
  for (;;) {
    const more = from.drain(({ u8, offset }) => out.push(u8[offset]), 100);
    expect(out.length).toBeLessThanOrEqual(count);
    if (out.length === count || !more) return out;
    await from.wait();
  }
}

/** Waits until so many files have been read to their end. */
async function ended(from: FollowSource, count: number): Promise<void> {
  while (from.files < count) {
    expect(from.drain(() => expect.unreachable(), 100)).toBe(true);
    await Promise.race([from.wait(), new Promise((resolve) => void setTimeout(resolve, 20))]);
  }
}

describe('a directory that is being filled', () => {
  test('files come in the order in which they were last written to, then by name with its numbers', async () => {
    put('b.pcap', file(3), 200);
    put('a.pcap', file(4), 300);
    put('t.pcap10', file(2), 100);
    put('t.pcap9', file(1), 100);
    mkdirSync(join(dir, 'more.pcap'));
    expect(await ids(follow(), 4)).toEqual([1, 2, 3, 4]);
    // The last one may grow: it is not at its end.
    expect(files.map(([name]) => name)).toEqual(['t.pcap9', 't.pcap10', 'b.pcap']);
  });

  test('a file is read as it grows, a packet when it is whole', async () => {
    const reader = follow();
    const path = put('a.pcap', file(1).subarray(0, 10));
    expect(reader.drain(() => expect.unreachable(), 10)).toBe(true);
    appendFileSync(path, file(1).subarray(10, 30));
    appendFileSync(path, file(1).subarray(30));
    expect(await ids(reader, 1)).toEqual([1]);
    appendFileSync(path, records(2, 3).subarray(0, 25));
    expect(await ids(reader, 1)).toEqual([2]);
    appendFileSync(path, records(2, 3).subarray(25));
    expect(await ids(reader, 1)).toEqual([3]);
    expect(files).toEqual([]);
  });

  test('pcapng grows too', async () => {
    const whole = pcapngFile(frames(1, 2));
    const path = put('a.pcapng', whole.subarray(0, whole.length - 7));
    const reader = follow();
    expect(await ids(reader, 1)).toEqual([1]);
    appendFileSync(path, whole.subarray(whole.length - 7));
    expect(await ids(reader, 1)).toEqual([2]);
  });

  test('a file is at its end when there is another one and it does not grow', async () => {
    put('a.pcap', file(1), 100);
    const reader = follow();
    expect(await ids(reader, 1)).toEqual([1]);
    appendFileSync(put('b.pcap', file(3)), records(4));
    expect(await ids(reader, 2)).toEqual([3, 4]);
    expect(files).toEqual([['a.pcap', undefined]]);
  });

  test('a file that is deleted is read to its end first', async () => {
    const path = put('a.pcap', file(1, 2));
    const reader = follow();
    expect(await ids(reader, 2)).toEqual([1, 2]);
    appendFileSync(path, records(3));
    unlinkSync(path);
    expect(await ids(reader, 1)).toEqual([3]);
    await ended(reader, 1);
  });

  test('a file that is renamed is not another one', async () => {
    const path = put('a.pcap', file(1));
    const reader = follow();
    expect(await ids(reader, 1)).toEqual([1]);
    renameSync(path, join(dir, 'a.pcap.1'));
    put('a.pcap', file(2));
    expect(await ids(reader, 1)).toEqual([2]);
    renameSync(join(dir, 'a.pcap.1'), join(dir, 'a.pcap.2'));
    put('b.pcap', file(3));
    expect(await ids(reader, 1)).toEqual([3]);
  });

  test('a file that is begun anew is read again (rings of files)', async () => {
    const path = put('a.pcap', file(1, 2));
    const reader = follow();
    expect(await ids(reader, 2)).toEqual([1, 2]);
    truncateSync(path);
    appendFileSync(path, file(3));
    expect(await ids(reader, 1)).toEqual([3]);
  });

  test('a file that is begun anew is read again with as many bytes as before, and one that only grew is not', async () => {
    const ring = put('a.pcap', file(1, 2), 100);
    const reader = follow(20, 40);
    expect(await ids(reader, 2)).toEqual([1, 2]);
    put('b.pcap', file(3));
    expect(await ids(reader, 1)).toEqual([3]);
    truncateSync(ring);
    writeFileSync(ring, file(4, 5));
    expect(await ids(reader, 2)).toEqual([4, 5]);
    expect(reader.damaged).toBe(0);
  });

  test('two files may grow at the same time', async () => {
    const [a, b] = [put('a.pcap', file(1), 100), put('b.pcap', file(2), 200)];
    const reader = follow();
    expect(await ids(reader, 2)).toEqual([1, 2]);
    appendFileSync(a, records(3));
    expect(await ids(reader, 1)).toEqual([3]);
    appendFileSync(b, records(4).subarray(0, 9));
    appendFileSync(a, records(5));
    expect(await ids(reader, 1)).toEqual([5]);
    appendFileSync(b, records(4).subarray(9));
    expect(await ids(reader, 1)).toEqual([4]);
    appendFileSync(a, records(6));
    unlinkSync(a);
    expect(await ids(reader, 1)).toEqual([6]);
    expect(reader.damaged).toBe(0);
    expect(reader.files).toBe(2);
  });

  test('an empty file is waited for, and nothing is wrong with it when another one follows', async () => {
    put('a.pcap', new Uint8Array(0));
    const reader = follow();
    put('b.pcap', file(1));
    expect(await ids(reader, 1)).toEqual([1]);
    appendFileSync(join(dir, 'a.pcap'), file(2));
    expect(await ids(reader, 1)).toEqual([2]);
    expect(reader.damaged).toBe(0);
  });

  test('compressed files are read when they do not grow any more', async () => {
    put('a.pcap.gz', gzipSync(file(1, 2)));
    const hasty = follow(60_000);
    for (let n = 0; n < 3; n++) {
      expect(hasty.drain(() => expect.unreachable(), 10)).toBe(true);
      await Promise.race([hasty.wait(), new Promise((resolve) => void setTimeout(resolve, 5))]);
    }
    hasty.close();
    const reader = follow();
    expect(await ids(reader, 2)).toEqual([1, 2]);
    await ended(reader, 1);
    expect(files).toEqual([['a.pcap.gz', undefined]]);
  });

  it.each(['.hidden.pcap', 'a.pcap.tmp', 'a.pcap.part', 'a.pcap~'])('%s is not read', async (name) => {
    put(name, file(9), 1);
    put('b.pcap', file(1));
    expect(await ids(follow(), 1)).toEqual([1]);
  });

  test('a file that stays cut, or is no capture, is told of, and the rest is read', async () => {
    put('a.txt', Buffer.from('no capture at all'), 100);
    put('b.pcap', file(1, 2).subarray(0, 50), 200);
    put('c.pcap', file(3), 300);
    const reader = follow(20, 40);
    expect(await ids(reader, 2)).toEqual([1, 3]);
    while (reader.damaged < 2) {
      expect(reader.drain(() => expect.unreachable(), 100)).toBe(true);
      await Promise.race([reader.wait(), new Promise((resolve) => void setTimeout(resolve, 20))]);
    }
    const problems = files.filter(([, problem]) => problem !== undefined);
    expect(
      problems.map(([name, problem]) => [
        name,
        problem?.code,
        /neither|cut off/.test(problem?.message ?? ''),
      ]),
    ).toEqual([
      ['a.txt', 'FILE_FORMAT', true],
      ['b.pcap', 'FILE_FORMAT', true],
    ]);
  });

  test('a directory that goes away ends it', async () => {
    const reader = follow();
    rmSync(dir, { recursive: true });
    expect(await ids(reader, 1)).toEqual([]);
    expect(reader.problem).toMatchObject({ code: 'FILE' });
  });

  test('what is no directory is refused', () => {
    const path = put('a.pcap', file(1));
    expect(() => new FollowSource(path)).toThrow(expect.objectContaining({ code: 'FILE' }));
    expect(() => new FollowSource(join(dir, 'none'))).toThrow(expect.objectContaining({ code: 'FILE' }));
  });

  test('waiting ends when it is closed', async () => {
    const reader = follow();
    const waiting = reader.wait();
    reader.close();
    await waiting;
    expect(reader.drain(() => expect.unreachable(), 10)).toBe(false);
  });
});
