import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { SluiceError } from '../../../src/base/errors.ts';
import { FileSource } from '../../../src/capture/file.ts';
import { ZstdFrames, ZstdPart } from '../../../src/capture/zstd-frames.ts';
import { eth } from '../../../src/packet/build.ts';
import { Packet } from '../../../src/packet/packet.ts';
import { PcapReader, pcapFile } from '../../../src/packet/pcap.ts';
import { PcapngReader } from '../../../src/packet/pcapng.ts';
import { PcapngWriter, pcapngFile } from '../../../src/packet/pcapng-writer.ts';
import { type CaptureReader, MAX_BLOCK_BYTES, Read } from '../../../src/packet/reader.ts';
import { check, type Input, type Target } from './input.ts';

const CHUNKS = [1, 3, 16, 61, 700, 65_536];

const frames = [
  { ts: 1_700_000_000.25, bytes: eth().ipv4().udp().payload(60).bytes() },
  { ts: 1_700_000_001.5, bytes: eth().ipv6().tcp().payload(301).bytes(), wirelen: 1500 },
  { ts: 0, bytes: new Uint8Array(0) },
];
const PCAPS = [true, false].flatMap((nano) =>
  [true, false].map((bigEndian) => pcapFile(frames, { nano, bigEndian, snaplen: 65_535 })),
);
/** Interfaces with options, an enhanced block with a comment, a simple and an obsolete packet block, a second section. */
const PCAPNGS = [true, false].map((bigEndian) => {
  const interfaces = [
    { nano: true, name: 'eth0', offsetSeconds: 3600 },
    { linkType: 101, snaplen: 96, filter: 'tcp' },
  ];
  const writer = new PcapngWriter({ bigEndian, interfaces });
  return Buffer.concat([
    pcapngFile(
      [
        { ...frames[0], comment: 'first' },
        { ...frames[1], interfaceId: 1 },
      ],
      { bigEndian, interfaces },
    ),
    writer.header(),
    writer.block(3, Buffer.concat([Uint8Array.of(0, 0, 0, 8), new Uint8Array(8)])),
    writer.block(2, new Uint8Array(24)),
    writer.block(5, new Uint8Array(12)),
    writer.record(frames[2]),
  ]);
});

const whole = (port: number, bytes: Uint8Array): Input => ({ port, pieces: [{ from: 1, bytes }] });
const joined = ({ pieces }: Input) => Buffer.concat(pieces.map(({ bytes }) => bytes));

/** Reads through windows of `chunk` more bytes each; every frame has to lie inside of what was shown. */
function readAll(reader: CaptureReader, file: Uint8Array, chunk: number): string {
  const packet = new Packet();
  const out: string[] = [];
  let start = 0;
  let end = 0;
  let steps = 0;
  for (;;) {
    end = Math.min(file.length, Math.max(end + chunk, start + Math.min(reader.need, file.length)));
    const window = new Uint8Array(end - start + 3);
    window.set(file.subarray(start, end), 3);
    reader.window(window, 3, window.length, start);
    for (;;) {
      check(++steps <= 4 * file.length + 64, 'no progress');
      const state = reader.next(packet);
      if (state === Read.damaged) {
        check(reader.damage !== undefined, 'damage without a word');
        return `${out.join(' ')} ${reader.damage?.message}`;
      }
      if (state === Read.more) break;
      check(
        packet.offset >= 3 && packet.offset + packet.caplen <= window.length,
        'a frame outside of the window',
      );
      check(packet.caplen <= packet.wirelen && Number.isFinite(packet.ts), 'lengths or time that cannot be');
      out.push(`${packet.ts}/${packet.caplen}/${packet.wirelen}/${packet.linkType}`);
    }
    check(reader.need <= MAX_BLOCK_BYTES + 64, `${reader.need} bytes are wanted`);
    start += reader.position - 3;
    if (end === file.length) return `${out.join(' ')} ${reader.finish()?.message}`;
  }
}

const readerTarget = (name: string, make: () => CaptureReader, files: readonly Uint8Array[]): Target => ({
  name,
  seeds: files.map((file, i) => whole(CHUNKS[i % CHUNKS.length], file)),
  ports: CHUNKS,
  run(input) {
    const file = joined(input);
    const a = readAll(make(), file, Math.max(1, input.port));
    const b = readAll(make(), file, Math.max(1, file.length));
    check(a === b, `pieces of ${input.port} read otherwise:\n${a}\n${b}`);
  },
  hold(input) {
    const reader = make();
    readAll(reader, joined(input), 65_536);
    return reader;
  },
});

const zstdFramesTarget: Target = {
  name: 'zstd frames',
  seeds: PCAPS.map((file) => whole(0, zstdCompressSync(file))),
  ports: [0],
  run(input) {
    const bytes = joined(input);
    const scanner = new ZstdFrames();
    for (let at = 0, steps = 0; at < bytes.length; ) {
      check(++steps <= bytes.length + 1, 'no progress');
      const part = scanner.next(bytes, at, bytes.length);
      if (part === ZstdPart.more || part === ZstdPart.none) return;
      check(scanner.length > 0, 'a part of nothing');
      if (part !== ZstdPart.skippable) check(at + scanner.length <= bytes.length, 'a part beyond the end');
      at += scanner.length;
    }
  },
};

/** Files as a user has them, packed or not: read whole, or a coded error. */
const fileTarget = (): Target => {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-fuzz-'));
  process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'input');
  const captures = [PCAPS[0], PCAPNGS[0]];
  return {
    name: 'files',
    seeds: [
      ...captures,
      ...captures.map((file) => gzipSync(file)),
      ...captures.map((file) => zstdCompressSync(file)),
      Buffer.concat([gzipSync(PCAPS[0].subarray(0, 70)), gzipSync(PCAPS[0].subarray(70))]),
      Buffer.concat([zstdCompressSync(PCAPS[0].subarray(0, 70)), zstdCompressSync(PCAPS[0].subarray(70))]),
    ].map((file) => whole(65_536, file)),
    ports: CHUNKS,
    async run(input) {
      writeFileSync(path, joined(input));
      let source: FileSource;
      try {
        source = FileSource.open(path, { chunkBytes: input.port });
      } catch (error) {
        if (!(error instanceof SluiceError) || error.code !== 'FILE_FORMAT') throw error;
        return;
      }
      try {
        let packets = 0;
        while (source.drain(() => packets++, 1000)) {
          check(packets < 1_000_000, 'packets without end');
          await source.wait();
        }
        check(
          source.problem === undefined || source.problem.code === 'FILE_FORMAT',
          source.problem?.message ?? '',
        );
      } finally {
        source.close();
      }
    },
  };
};

/** Readers of files, and what unpacks them. */
export function captureTargets(): Target[] {
  return [
    readerTarget('pcap', () => new PcapReader(), PCAPS),
    readerTarget('pcapng', () => new PcapngReader(), PCAPNGS),
    zstdFramesTarget,
    fileTarget(),
  ];
}
