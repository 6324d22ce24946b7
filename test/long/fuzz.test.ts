import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect, test } from 'vitest';
import { SERVICES } from '../../src/flow/services/index.ts';
import { packageRoot } from '../../src/kernel/index.ts';
import type { FuzzReport } from './fuzz/main.ts';

const SEED = process.env['SLUICE_SEED'] ?? '1';
/** How often a block may run per byte of an input; measured: 8. What is quadratic comes to hundreds. */
const MOST_WORK = 24;
/** Bytes that a parser may keep of a connection, whatever it was sent; measured: 45 KB (QUIC). All together: 85 KB. */
const MOST_HELD = 131_072;
/** Files without a function. */
const DECLARATIONS = ['index.ts', 'service.ts', 'types.ts'];
const MOST_RSS = 1.5 * 2 ** 30;
/** Seconds, for what takes one or two minutes. */
const HANGS = 840;
const LONGEST_MS = 2 * 900_000;

/** Fuzzes a group of targets in a process of its own, which has to end by itself and within its memory. */
async function fuzz(group: string, seconds: number): Promise<FuzzReport> {
  const main = join(packageRoot(), 'test', 'long', 'fuzz', 'main.ts');
  const args = ['--group', group, '--seconds', `${seconds}`, '--seed', SEED];
  const child = spawn(process.execPath, ['--expose-gc', '--max-old-space-size=512', main, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.on('data', (data: Buffer) => {
    out += data.toString();
  });
  const late = setTimeout(() => child.kill('SIGKILL'), HANGS * 1000);
  const code = await new Promise((resolve) =>
    child.once('close', (status, signal) => resolve(signal ?? status)),
  );
  clearTimeout(late);
  expect(code, `the fuzzer of ${group} hangs, or has run out of memory`).toBe(0);
  return JSON.parse(out) as FuzzReport;
}

/** Every target did much, nothing broke, and nothing took more than it may. */
function expectSound({ targets, rss }: FuzzReport): void {
  for (const { target, inputs, work, where, held, failure } of targets) {
    expect(failure, `${target}, seed ${SEED}`).toBeUndefined();
    expect(inputs, target).toBeGreaterThanOrEqual(1000);
    expect(work, `${target}: work per byte in ${where}`).toBeLessThan(MOST_WORK);
    expect(held, `${target}: memory`).toBeLessThan(MOST_HELD);
  }
  expect(rss).toBeLessThan(MOST_RSS);
}

/** Source files of a directory in which nothing has run. */
function untouched({ blocks }: FuzzReport, directory: string, except: readonly string[] = []): string[] {
  return readdirSync(join(packageRoot(), directory))
    .filter((file) => file.endsWith('.ts') && !except.includes(file))
    .map((file) => `${directory}/${basename(file)}`)
    .filter((file) => (blocks[file] ?? 0) === 0);
}

test(
  'the fuzzer finds what was planted: a throw three branches deep, quadratic work, memory',
  async () => {
    // How far it comes in a time depends on who else uses the machine.
    const quick = await fuzz('planted', 15);
    const all = ({ targets: [throws, squares, hoards] }: FuzzReport): boolean =>
      throws.failure !== undefined && squares.work > MOST_WORK && hoards.held > MOST_HELD / 2;
    const { targets } = all(quick) ? quick : await fuzz('planted', 120);
    expect(targets.map(({ target }) => target)).toEqual(['throwing', 'quadratic', 'hoarding']);
    const [throwing, quadratic, hoarding] = targets;
    expect(throwing.failure?.message ?? 'not found').toContain('planted');
    expect(quadratic.work).toBeGreaterThan(MOST_WORK);
    expect(hoarding.held).toBeGreaterThan(MOST_HELD / 2);
  },
  LONGEST_MS,
);

test('every recognizer of a service, alone and together', async () => {
  const report = await fuzz('services', 45);
  expectSound(report);
  const names = report.targets.map(({ target }) => target);
  expect(names.toSorted()).toEqual(
    [
      ...SERVICES.map(({ name, transport }) => `${name} ${transport}`),
      'recognition tcp',
      'recognition udp',
    ].toSorted(),
  );
  expect(untouched(report, 'src/flow/services', DECLARATIONS)).toEqual([]);
});

test('link layers, IP, fragments, tunnels, mirrors, and the flow engine over all of them', async () => {
  const report = await fuzz('packets', 45);
  expectSound(report);
  expect(untouched(report, 'src/packet/tunnel')).toEqual([]);
  expect(untouched(report, 'src/packet/encap', [...DECLARATIONS, 'reasons.ts'])).toEqual([]);
  expect(untouched(report, 'src/packet/link', DECLARATIONS)).toEqual([]);
});

test('readers of pcap and pcapng, gzip and zstd', async () => {
  const report = await fuzz('captures', 20);
  expectSound(report);
});
