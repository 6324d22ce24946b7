import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { FileSource } from '../../src/capture/file.ts';
import { canUnpack } from '../../src/capture/unpack.ts';
import { seeded } from '../../src/packet/conversation.ts';
import { type FrameToWrite, pcapFile } from '../../src/packet/pcap.ts';
import { pcapngFile } from '../../src/packet/pcapng-writer.ts';

const dir = mkdtempSync(join(tmpdir(), 'sluice-packed-'));
afterAll(() => rmSync(dir, { recursive: true }));

function file(name: string, bytes: Uint8Array): string {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
}

/** Frames that do not pack well, so that a packed file has many blocks. */
const random = seeded(7);
const frames: FrameToWrite[] = Array.from({ length: 3000 }, (_, n) => ({
  ts: 1_700_000_000 + n,
  bytes: Uint8Array.from({ length: 60 + (n % 400) }, (__, i) => (i < 30 ? n & 0xff : random() * 256)),
}));
const times = frames.map(({ ts }) => ts);
const capture = pcapFile(frames);

async function timesOf(source: FileSource): Promise<unknown[]> {
  const out: unknown[] = [];
  while (source.drain(({ ts }) => out.push(ts), 100)) await source.wait();
  source.close();
  return out;
}

const gzip = (bytes: Uint8Array) => zlib.gzipSync(bytes);
const zstd = (bytes: Uint8Array) =>
  zlib.zstdCompressSync(bytes, { params: { [zlib.constants.ZSTD_c_checksumFlag]: 1 } });
const packings = [['gzip', gzip], ...(canUnpack('zstd') ? ([['zstd', zstd]] as const) : [])] as const;

describe.each(packings)('%s', (packing, pack) => {
  const packed = pack(capture);

  test('is unpacked, whatever its name and the chunk size', async () => {
    for (const bytes of [packed, pack(pcapngFile(frames))]) {
      for (const chunkBytes of [1000, undefined]) {
        const source = FileSource.open(file('x.pcap', bytes), chunkBytes === undefined ? {} : { chunkBytes });
        expect(await timesOf(source)).toEqual(times);
        expect(source.problem).toBeUndefined();
        expect(source.packing).toBe(packing);
        expect([source.totalBytes, source.readBytes]).toEqual([bytes.length, bytes.length]);
      }
    }
  });

  test('in many members or frames one after the other, as appending and parallel packers leave it', async () => {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < capture.length; at += 50_001) pieces.push(pack(capture.subarray(at, at + 50_001)));
    pieces.splice(3, 0, pack(new Uint8Array(0)));
    const source = FileSource.open(file('many', Buffer.concat(pieces)));
    expect(await timesOf(source)).toEqual(times);
    expect(source.problem).toBeUndefined();
  });

  test('cut anywhere: what came before the cut, then FILE_FORMAT', async () => {
    for (const share of [0.2, 0.5, 0.9, 1]) {
      const bytes = packed.subarray(0, Math.floor(packed.length * share) - 3);
      const source = FileSource.open(file('cut', bytes));
      const read = await timesOf(source);
      expect(read).toEqual(times.slice(0, read.length));
      // zstd unpacks by blocks of 128 KiB.
      const lost = packing === 'zstd' ? 131_072 / 200 : 10;
      expect(read.length).toBeGreaterThan(times.length * share - lost - 150);
      expect(source.problem?.code).toBe('FILE_FORMAT');
      expect(source.problem?.message).toContain('cut: ');
      expect(source.problem?.message).toContain(`after ${read.length} packets`);
    }
  });

  test('with a damaged byte: what came before, then FILE_FORMAT', async () => {
    for (const share of [0.3, 0.6]) {
      const bytes = Uint8Array.from(packed);
      // A run, so that the damage is found where it is and not by the checksum at the end.
      bytes.fill(0xff, Math.floor(bytes.length * share), Math.floor(bytes.length * share) + 64);
      const source = FileSource.open(file('damaged', bytes));
      const read = await timesOf(source);
      const whole = Math.floor(times.length * share) - (packing === 'zstd' ? 800 : 200);
      expect(read.slice(0, whole)).toEqual(times.slice(0, whole));
      expect(source.problem?.code).toBe('FILE_FORMAT');
      expect(source.problem?.help).toBeDefined();
    }
  });

  test('with a wrong checksum at the end: all packets, then FILE_FORMAT', async () => {
    const bytes = Uint8Array.from(packed);
    bytes[bytes.length - (packing === 'gzip' ? 6 : 2)] ^= 1;
    const source = FileSource.open(file('checksum', bytes));
    expect(await timesOf(source)).toEqual(times);
    expect(source.problem?.message).toMatch(
      new RegExp(`${packing} data at byte \\d+: .*, after 3000 packets`),
    );
  });

  test('with something else behind it: all packets, then FILE_FORMAT', async () => {
    const source = FileSource.open(file('behind', Buffer.concat([packed, Buffer.from('and more of it')])));
    expect(await timesOf(source)).toEqual(times);
    expect(source.problem?.code).toBe('FILE_FORMAT');
  });

  test('of no capture, of nothing, of something packed: FILE_FORMAT', async () => {
    for (const [content, message] of [
      [Buffer.from('GET / HTTP/1.1'), /is neither pcap nor pcapng/],
      [new Uint8Array(0), /is empty/],
      [packed, /is compressed/],
    ] as const) {
      const source = FileSource.open(file('odd', pack(content)));
      expect(await timesOf(source)).toEqual([]);
      expect(source.problem?.code).toBe('FILE_FORMAT');
      expect(source.problem?.message).toMatch(message);
    }
  });

  test('from a pipe', async () => {
    const script = `
      import { FileSource } from ${JSON.stringify(new URL('../../src/capture/file.ts', import.meta.url).href)};
      const source = FileSource.open('-');
      while (source.drain(() => {}, 100)) await source.wait();
      source.close();
      process.stdout.write(JSON.stringify([source.packets, source.packing, source.problem?.code ?? null]));`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    createReadStream(file('piped', packed), { highWaterMark: 7000 }).pipe(child.stdin);
    let out = '';
    child.stdout.on('data', (data: Buffer) => (out += data.toString()));
    await once(child, 'close');
    expect(JSON.parse(out)).toEqual([3000, packing, null]);
  });

  test('unpacks no more ahead than it may', async () => {
    // 64 MiB of zeros behind a header are a few KiB packed.
    const size = 64 * 2 ** 20;
    const path = file('bomb', pack(Buffer.concat([pcapFile([]), Buffer.alloc(size)])));
    const before = process.memoryUsage().arrayBuffers;
    const source = FileSource.open(path);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(48 * 2 ** 20);
    let n = 0;
    while (source.drain(() => n++, 10_000)) await source.wait();
    source.close();
    expect(n).toBe(size / 16);
  });

  test('can be closed at any time', async () => {
    const source = FileSource.open(file('closed', packed));
    const waiting = source.drain(() => {}, 10) ? source.wait() : undefined;
    source.close();
    await waiting;
    expect(source.drain(() => {}, 10)).toBe(false);
    source.close();
  });
});
