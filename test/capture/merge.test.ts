import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { MergedSource, MOST_OPEN } from '../../src/capture/merge.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { pcapngFile } from '../../src/packet/pcapng-writer.ts';

const dir = mkdtempSync(join(tmpdir(), 'sluice-merge-'));
afterAll(() => rmSync(dir, { recursive: true }));

let files = 0;
/** A file with a packet at each of these times; the packet's bytes say which file it is from. */
function file(
  times: readonly number[],
  name = 0,
  pack: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes,
) {
  const path = join(dir, `${++files}.pcap`);
  writeFileSync(path, pack(pcapFile(times.map((ts) => ({ ts, bytes: new Uint8Array(60).fill(name) })))));
  return path;
}

async function read(
  paths: readonly string[],
  batch = 3,
): Promise<{ got: [number, number][]; source: MergedSource }> {
  const source = await MergedSource.open(paths);
  const got: [number, number][] = [];
  while (source.drain(({ ts, u8, offset }) => got.push([ts, u8[offset]]), batch)) await source.wait();
  source.close();
  return { got, source };
}

const fds = () => readdirSync('/proc/self/fd').length;

describe('MergedSource', () => {
  test('gives packets in the order of time, of equal times those of the file named first', async () => {
    const paths = [file([3, 5, 7], 1), file([1, 3, 9], 2, gzipSync), file([3], 3)];
    const { got, source } = await read(paths);
    expect(got).toEqual([
      [1, 2],
      [3, 1],
      [3, 2],
      [3, 3],
      [5, 1],
      [7, 1],
      [9, 2],
    ]);
    expect(source.packets).toBe(7);
    expect(source.problem).toBeUndefined();
  });

  test('is a stable sort of files that are in order, whatever they hold', async () => {
    const one = fc
      .array(fc.integer({ min: 0, max: 20 }), { maxLength: 12 })
      .map((each) => each.sort((a, b) => a - b));
    await fc.assert(
      fc.asyncProperty(
        fc.array(one, { minLength: 2, maxLength: 6 }),
        fc.integer({ min: 1, max: 9 }),
        async (all, batch) => {
          const { got } = await read(
            all.map((times, n) => file(times, n)),
            batch,
          );
          const sorted = all
            .flatMap((times, n) => times.map((ts): [number, number] => [ts, n]))
            .sort((a, b) => a[0] - b[0]);
          expect(got).toEqual(sorted);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("keeps a file's own order, also where its clock was set back", async () => {
    const { got } = await read([file([5, 2, 8], 1), file([4, 6], 2)]);
    expect(got.filter(([, name]) => name === 1).map(([ts]) => ts)).toEqual([5, 2, 8]);
    expect(got).toHaveLength(5);
  });

  test('reads pieces that follow one another one after the other, in the order of time, with one open at a time', async () => {
    const paths = Array.from({ length: 300 }, (_, n) => file([n * 10, n * 10 + 9], n % 250)).toReversed();
    const before = fds();
    const source = await MergedSource.open(paths);
    expect(fds()).toBe(before);
    let most = 0;
    const times: number[] = [];
    while (source.drain(({ ts }) => times.push(ts), 1)) most = Math.max(most, fds() - before);
    expect(times).toEqual(Array.from({ length: 300 }, (_, n) => [n * 10, n * 10 + 9]).flat());
    expect(most).toBeLessThanOrEqual(2);
    expect(fds()).toBe(before);
  });

  test('leaves out what would be too many open files, and says so', async () => {
    const paths = Array.from({ length: MOST_OPEN + 2 }, (_, n) => file([n, 1000], n % 250));
    const { got, source } = await read(paths, 1000);
    expect(got).toHaveLength(2 * MOST_OPEN);
    expect(source.problem?.message).toContain(`more than ${MOST_OPEN} files`);
    expect(source.problem?.help).toContain('mergecap');
    expect(source.problems).toHaveLength(2);
  });

  test('goes on when one file is damaged or empty, and tells', async () => {
    const bytes = pcapFile([1, 4].map((ts) => ({ ts, bytes: new Uint8Array(60) })));
    const cut = join(dir, 'cut.pcap');
    writeFileSync(cut, bytes.subarray(0, bytes.length - 7));
    const { got, source } = await read([cut, file([]), file([2, 3], 5)]);
    expect(got.map(([ts]) => ts)).toEqual([1, 2, 3]);
    expect(source.problem?.code).toBe('FILE_FORMAT');
    expect(source.problem?.message).toContain('cut.pcap');
    expect(source.readBytes).toBeGreaterThan(200);
  });

  test('refuses all when one is no capture, before it reads', async () => {
    const odd = join(dir, 'odd');
    for (const content of ['text, no capture', gzipSync('text, no capture')]) {
      writeFileSync(odd, content);
      const before = fds();
      await expect(MergedSource.open([file([1]), odd])).rejects.toMatchObject({ code: 'FILE_FORMAT' });
      await expect(MergedSource.open([file([1]), join(dir, 'none')])).rejects.toMatchObject({ code: 'FILE' });
      expect(fds()).toBe(before);
    }
  });

  test('joins pcap and pcapng', async () => {
    const path = join(dir, 'x.pcapng');
    writeFileSync(path, pcapngFile([2, 6].map((ts) => ({ ts, bytes: new Uint8Array(60).fill(9) }))));
    expect((await read([path, file([1, 3], 1)])).got.map(([ts]) => ts)).toEqual([1, 2, 3, 6]);
  });
});
