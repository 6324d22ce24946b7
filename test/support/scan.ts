import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eth } from '../../src/packet/build.ts';
import { PcapWriter } from '../../src/packet/pcap.ts';

/**
 * A capture of a scan, piece by piece: one SYN each from addresses and ports of its own, so many a second. Checksums are
 * not filled in.
 */
export function* scan(flows: number, perSecond: number): Generator<Uint8Array> {
  yield new PcapWriter().header();
  const frame = eth().ipv4({ src: '10.0.0.1', dst: '192.0.2.1' }).tcp({ flags: 'S' }).bytes();
  const size = 16 + frame.length;
  const most = 10_000;
  for (let done = 0; done < flows; ) {
    const n = Math.min(most, flows - done);
    const out = new Uint8Array(n * size);
    const view = new DataView(out.buffer);
    for (let i = 0; i < n; i++, done++) {
      const at = i * size;
      const micros = Math.floor((done / perSecond) * 1e6);
      view.setUint32(at, 1_700_000_000 + Math.floor(micros / 1e6), true);
      view.setUint32(at + 4, micros % 1e6, true);
      view.setUint32(at + 8, frame.length, true);
      view.setUint32(at + 12, frame.length, true);
      out.set(frame, at + 16);
      view.setUint32(at + 16 + 26, (10 << 24) | (done >>> 8));
      view.setUint16(at + 16 + 34, 1024 + (done & 0xff));
    }
    yield out;
  }
}

export interface ScanRead {
  summary: { packets: number; flows: number; error?: unknown };
  /** Lines of conn.log. */
  lines: number;
  /** The most memory that the process ever had in use, in bytes. */
  peak: number;
}

/** What docs/cli.md says that `sluice read` needs at most, in bytes. */
export function memoryBound(maxFlows: number): number {
  return 192 * 2 ** 20 + 512 * maxFlows;
}

/** Reads a scan from a pipe with a process of its own; conn.log goes into a pipe too and is counted there. */
export async function readScan(flows: number, perSecond: number, args: readonly string[]): Promise<ScanRead> {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-scan-'));
  try {
    const log = join(dir, 'conn.log');
    execFileSync('mkfifo', [log]);
    const child = spawn(
      process.execPath,
      [
        fileURLToPath(new URL('./sluice.ts', import.meta.url)),
        'read',
        '-',
        '--log-dir',
        dir,
        '--json',
        '--no-checksums',
        '--quiet',
        ...args,
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    let stdout = '';
    child.stdout.on('data', (data: Buffer) => (stdout += data.toString()));
    child.stdin.on('error', () => {});
    const ended = once(child, 'close');
    let lines = 0;
    const counter = createReadStream(log, { highWaterMark: 1 << 20 });
    counter.on('data', (data) => {
      const bytes = data as Buffer;
      for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) lines++;
    });
    const counted = once(counter, 'close');
    let peak = 0;
    const look = () => {
      try {
        const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
        peak = Math.max(peak, Number(/^VmHWM:\s*(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024);
      } catch {
        // It has ended.
      }
    };
    const timer = setInterval(look, 50);
    for (const piece of scan(flows, perSecond)) {
      if (!child.stdin.write(piece)) await once(child.stdin, 'drain');
    }
    child.stdin.end();
    await ended;
    await counted;
    clearInterval(timer);
    return { summary: JSON.parse(stdout), lines, peak };
  } finally {
    rmSync(dir, { recursive: true });
  }
}
