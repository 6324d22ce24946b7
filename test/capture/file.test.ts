import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import { FileSource } from '../../src/capture/file.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { type BatchSink, Packet } from '../../src/packet/packet.ts';
import { type FrameToWrite, pcapFile } from '../../src/packet/pcap.ts';
import { pcapngFile } from '../../src/packet/pcapng-writer.ts';

const dir = mkdtempSync(join(tmpdir(), 'sluice-file-'));
afterAll(() => rmSync(dir, { recursive: true }));

function file(name: string, bytes: Uint8Array | string): string {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
}

const frames: FrameToWrite[] = conversation({
  turns: [
    { from: 'client', data: 300 },
    { from: 'server', data: 40_000 },
  ],
});
const expected = frames.map((frame) => Buffer.from(frame.bytes).toString('hex'));

async function drainAll(source: FileSource, batch = 7): Promise<string[]> {
  const out: string[] = [];
  const sink = (packet: { u8: Uint8Array; offset: number; caplen: number }) => {
    out.push(Buffer.from(packet.u8.subarray(packet.offset, packet.offset + packet.caplen)).toString('hex'));
  };
  while (source.drain(sink, batch)) await source.wait();
  source.close();
  return out;
}

function thrown(run: () => unknown): SluiceError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(SluiceError);
    return error as SluiceError;
  }
  throw new Error('nothing was thrown');
}

describe('drainBatches', () => {
  test('hands out what drain does, whatever the chunk size and the most that is wanted', async () => {
    const path = file('batches.pcap', pcapFile(frames));
    for (const chunkBytes of [64, 3000, 1_048_576]) {
      for (const most of [1, 7, 100_000]) {
        const source = FileSource.open(path, { chunkBytes });
        const out: string[] = [];
        const sink: BatchSink = (packets, count) => {
          expect(count).toBeLessThanOrEqual(most);
          for (const { u8, offset, caplen } of packets.slice(0, count))
            out.push(Buffer.from(u8.subarray(offset, offset + caplen)).toString('hex'));
        };
        while (source.drainBatches(sink, most)) await source.wait();
        source.close();
        expect(source.problem).toBeUndefined();
        expect(source.packets).toBe(frames.length);
        expect(out).toEqual(expected);
      }
    }
  });

  test('what lies before damage is handed out', () => {
    const source = FileSource.open(file('cut.pcap', pcapFile(frames).subarray(0, -10)));
    let packets = 0;
    while (
      source.drainBatches((_, count) => {
        packets += count;
      }, 1000)
    );
    source.close();
    expect(packets).toBe(frames.length - 1);
    expect(source.problem?.message).toMatch(/a record cut off/);
  });
});

/** All that a cursor says of a frame that lies somewhere. */
function seen({
  u8,
  offset,
  caplen,
  wirelen,
  ts,
  linkType,
  vlanTci,
  checksum,
  tunnel,
  vni,
}: Packet): unknown {
  const bytes = Buffer.from(u8.subarray(offset, offset + caplen)).toString('hex');
  return { bytes, caplen, wirelen, ts, linkType, vlanTci, checksum, tunnel, vni };
}

describe('drainBlocks', () => {
  const cut = frames.map((frame, i) => ({ ...frame, wirelen: frame.bytes.length + (i % 3) }));
  const whole = pcapFile(cut);
  test.each([
    ['pcap', whole],
    ['pcap, the other byte order, nanoseconds', pcapFile(cut, { bigEndian: true, nano: true })],
    ['pcap of another link type', pcapFile(cut, { linkType: 101 })],
    ['pcapng', pcapngFile(cut)],
    ['pcap that is cut off', whole.subarray(0, -10)],
    ['pcap with a packet of impossible length', Buffer.from(whole).fill(0xff, 24 + 8, 24 + 12)],
  ])('shows what drain shows: %s', (name, bytes) => {
    const path = file(`blocks of ${name.replaceAll(/\W/g, '-')}`, bytes);
    const single = FileSource.open(path);
    const one: unknown[] = [];
    while (single.drain((packet) => one.push(seen(packet)), 1000));
    single.close();
    for (const chunkBytes of [64, 3000, 1_048_576]) {
      for (const most of [1, 7, 100_000]) {
        const source = FileSource.open(path, { chunkBytes });
        const blocks: unknown[] = [];
        const packet = new Packet();
        while (
          source.drainBlocks((block) => {
            expect(block.count).toBeLessThanOrEqual(most);
            for (let i = 0; i < block.count; i++) {
              block.show(i, packet);
              blocks.push(seen(packet));
            }
          }, most)
        );
        source.close();
        expect(blocks).toEqual(one);
        expect(source.packets).toBe(single.packets);
        expect(source.problem?.message).toBe(single.problem?.message);
      }
    }
  });
});

describe('FileSource', () => {
  test.each([
    ['pcap', pcapFile(frames)],
    ['pcapng', pcapngFile(frames)],
  ])('reads %s, whatever the chunk size', async (format, bytes) => {
    const path = file(`good.${format}`, bytes);
    for (const chunkBytes of [64, 1000, 65_536, undefined]) {
      const source = FileSource.open(path, chunkBytes === undefined ? {} : { chunkBytes });
      expect(source.format).toBe(format);
      expect(source.totalBytes).toBe(bytes.length);
      expect(await drainAll(source)).toEqual(expected);
      expect(source.problem).toBeUndefined();
      expect(source.packets).toBe(frames.length);
      expect(source.readBytes).toBe(bytes.length);
    }
  });

  test('drain stops after as many packets as it was told, and goes on there', () => {
    const source = FileSource.open(file('batches.pcap', pcapFile(frames)));
    let n = 0;
    expect(source.drain(() => n++, 5)).toBe(true);
    expect(n).toBe(5);
    while (source.drain(() => n++, 10));
    expect(n).toBe(frames.length);
    expect(source.drain(() => n++, 10)).toBe(false);
    source.close();
    source.close();
  });

  test('a file with a header only has no packets and no problem', async () => {
    const source = FileSource.open(file('none.pcap', pcapFile([])));
    expect(await drainAll(source)).toEqual([]);
    expect(source.problem).toBeUndefined();
  });

  test('a truncated file gives what came before, then a problem with place and count', async () => {
    const bytes = pcapFile(frames);
    const source = FileSource.open(file('cut.pcap', bytes.subarray(0, bytes.length - 5)), {
      chunkBytes: 4096,
    });
    expect(await drainAll(source)).toEqual(expected.slice(0, -1));
    expect(source.problem?.code).toBe('FILE_FORMAT');
    expect(source.problem?.exit).toBe(1);
    expect(source.problem?.message).toContain('cut.pcap');
    expect(source.problem?.message).toContain(`after ${frames.length - 1} packets`);
    expect(source.problem?.help).toBeDefined();
    const last = frames[frames.length - 1].bytes.length + 16;
    expect(source.problem?.message).toContain(`at byte ${bytes.length - last},`);
  });

  test('a block larger than the chunk makes the buffer grow, up to the limit', async () => {
    const large = { ts: 1, bytes: new Uint8Array(200_000).fill(7) };
    const source = FileSource.open(file('large.pcapng', pcapngFile([large, frames[0]])), {
      chunkBytes: 1024,
    });
    expect((await drainAll(source)).map((each) => each.length / 2)).toEqual([
      200_000,
      frames[0].bytes.length,
    ]);
  });

  test('standard input, arriving in small pieces', async () => {
    const script = `
      import { FileSource } from ${JSON.stringify(new URL('../../src/capture/file.ts', import.meta.url).href)};
      const source = FileSource.open('-');
      let bytes = 0;
      while (source.drain((packet) => { bytes += packet.caplen; }, 100)) await source.wait();
      process.stdout.write(JSON.stringify([source.name, source.packets, bytes, source.problem?.code ?? null]));`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const bytes = pcapngFile(frames);
    for (let at = 0; at < bytes.length; at += 5000) {
      child.stdin.write(bytes.subarray(at, at + 5000));
      await new Promise((done) => setTimeout(done, 2));
    }
    child.stdin.end();
    let out = '';
    child.stdout.on('data', (data: Buffer) => {
      out += data.toString();
    });
    await once(child, 'close');
    const total = frames.reduce((sum, frame) => sum + frame.bytes.length, 0);
    expect(JSON.parse(out)).toEqual(['standard input', frames.length, total, null]);
  });
});

describe('what is no capture file is a coded error with a next step', () => {
  test.each([
    ['empty', '', 'FILE_FORMAT', /is empty/],
    ['three bytes', 'abc', 'FILE_FORMAT', /neither/],
    ['text', 'ts,uid,proto\n1,2,3\n', 'FILE_FORMAT', /neither/],
    ['xz', Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0), 'FILE_FORMAT', /compressed \(xz\)/],
    ['bzip2', 'BZh91AY&SY', 'FILE_FORMAT', /compressed \(bzip2\)/],
  ])('%s', (name, bytes, code, message) => {
    const error = thrown(() => FileSource.open(file(name, bytes)));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.help).toBeDefined();
  });

  test('missing, a directory, a file as a directory', () => {
    const good = file('a.pcap', pcapFile(frames));
    for (const [path, message] of [
      [join(dir, 'nothing'), /no file/],
      [dir, /is a directory/],
      [join(good, 'x'), /no file/],
    ] as const) {
      const error = thrown(() => FileSource.open(path));
      expect(error.code).toBe('FILE');
      expect(error.message).toMatch(message);
      expect(error.help).toBeDefined();
    }
  });

  test('no permission', () => {
    const path = file('secret.pcap', pcapFile(frames));
    chmodSync(path, 0);
    chmodSync(dir, 0o755);
    // Root may read everything: take the rights of a user who may not.
    const root = process.geteuid?.() === 0;
    if (root) process.seteuid?.(65_534);
    try {
      const error = thrown(() => FileSource.open(path));
      expect(error.code).toBe('FILE');
      expect(error.message).toMatch(/no permission/);
    } finally {
      if (root) process.seteuid?.(0);
    }
  });
});
