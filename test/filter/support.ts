import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'vitest';
import { FileSource } from '../../src/capture/file.ts';
import type { CbpfProgram } from '../../src/ebpf/index.ts';
import { ClassicEngine, FrameBatch } from '../../src/filter/index.ts';
import type { Packet } from '../../src/packet/packet.ts';
import { corpusRoot, readCases } from '../flow/support/corpus.ts';

export interface Frame {
  bytes: Uint8Array;
  wire: number;
  linkType: number;
}

/** The frames of a capture file. */
export function framesOf(path: string): Frame[] {
  const frames: Frame[] = [];
  const source = FileSource.open(path);
  const sink = (packet: Packet) =>
    frames.push({
      bytes: packet.u8.slice(packet.offset, packet.offset + packet.caplen),
      wire: packet.wirelen,
      linkType: packet.linkType,
    });
  while (source.drain(sink, 10_000));
  source.close();
  return frames;
}

/** The traces of the corpus, or none where there is no corpus. */
export function corpusTraces(): { name: string; path: string }[] {
  const root = corpusRoot();
  if (root === undefined) return [];
  return readCases(root).map(({ name, format }) => ({ name, path: join(root, name, `trace.${format}`) }));
}

/** A pcap file with these frames. */
export function writePcap(path: string, frames: readonly Frame[], linkType = 1): void {
  const head = Buffer.alloc(24);
  head.writeUInt32LE(0xa1b2c3d4, 0);
  head.writeUInt16LE(2, 4);
  head.writeUInt16LE(4, 6);
  head.writeUInt32LE(262_144, 16);
  head.writeUInt32LE(linkType, 20);
  const parts: Uint8Array[] = [head];
  for (const [index, { bytes, wire }] of frames.entries()) {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(1_700_000_000 + Math.floor(index / 1000), 0);
    record.writeUInt32LE((index % 1000) * 1000, 4);
    record.writeUInt32LE(bytes.length, 8);
    record.writeUInt32LE(wire, 12);
    parts.push(record, bytes);
  }
  writeFileSync(path, Buffer.concat(parts));
}

const batches = new WeakMap<readonly Frame[], FrameBatch>();

/** What libpcap's interpreter returns for each frame. The frames are copied once, for all programs. */
export function runClassic(program: CbpfProgram, frames: readonly Frame[]): number[] {
  let batch = batches.get(frames);
  if (batch === undefined) {
    batch = new FrameBatch(frames.length);
    for (const { bytes, wire } of frames) batch.add(bytes, 0, bytes.length, wire);
    batches.set(frames, batch);
  }
  new ClassicEngine(program).run(batch);
  return [...batch.returns];
}

/** Indices of frames that match. */
export function matching(program: CbpfProgram, frames: readonly Frame[]): number[] {
  return runClassic(program, frames).flatMap((value, index) => (value === 0 ? [] : [index]));
}

const PATH = `${process.env['PATH']}:/usr/sbin:/sbin`;

/** Output of another tool; throws when it fails. */
export function tool(command: string, args: readonly string[], input?: string): string {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, PATH },
    maxBuffer: 1 << 28,
    ...(input === undefined ? {} : { input }),
  });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${result.stderr}`);
  return result.stdout;
}

/** A test against another tool; skipped with the reason where it is not installed, save in CI. */
export function toolTest(
  name: string,
  command: string,
  run: (context: TestContext) => Promise<void> | void,
  timeout?: number,
): void {
  test(name, timeout === undefined ? {} : { timeout }, async (context) => {
    const found = spawnSync('sh', ['-c', `command -v ${command}`], { env: { ...process.env, PATH } });
    if (found.status !== 0) {
      if (process.env['CI'] !== undefined)
        throw new Error(`${command} is not installed (scripts/setup.sh does)`);
      context.skip(`${command} is not installed`);
    }
    await run(context);
  });
}

/** A folder of its own for `use`, removed behind it. */
export function withFolder<T>(use: (dir: string) => T): T {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-filter-'));
  try {
    return use(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** A generator of numbers below `n`, the same for the same seed. */
export function seeded(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}
