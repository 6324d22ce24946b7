import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { addonHelp } from '../../src/kernel/addon.ts';
import {
  bootId,
  capabilities,
  FEATURES,
  lockFile,
  membarrier,
  monotonic,
  monotonicNs,
  netnsInode,
  possibleCpus,
  probe,
  probeAll,
  realtimeOffset,
  setThreadAffinity,
} from '../../src/kernel/index.ts';
import { attribute, attributes, concat, messages, request, textOf } from '../../src/kernel/netlink.ts';
import { descriptors } from '../support/descriptors.ts';
import { kernelTest, ownNetns, until } from '../support/kernel.ts';

const hostNetns = netnsInode();
ownNetns();

const lacking = (library: string) =>
  addonHelp(`${library}: cannot open shared object file: No such file or directory`);

describe('clocks', () => {
  test('monotonic time and its offset to the epoch agree with the clock of the system', () => {
    const seconds = monotonic();
    expect(Math.abs(Number(monotonicNs()) / 1e9 - seconds)).toBeLessThan(1);
    expect(Math.abs(monotonic() + realtimeOffset() - Date.now() / 1000)).toBeLessThan(1);
    expect(monotonic()).toBeGreaterThan(seconds);
  });
});

describe('the machine', () => {
  test('boot id, CPUs and namespace', () => {
    expect(bootId()).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(possibleCpus()).toBeGreaterThan(0);
    expect(netnsInode()).toBeGreaterThan(0);
  });

  kernelTest('a thread moves into a namespace of its own', [], () => {
    expect(netnsInode()).not.toBe(hostNetns);
    // A child process made by this thread is in it too.
    const child = spawnSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' });
    expect(child.stdout.trim()).toBe(`net:[${netnsInode()}]`);
  });

  kernelTest('a thread is pinned to a CPU that exists', [], () => {
    setThreadAffinity(0);
    expect(() => setThreadAffinity(1000)).toThrow(/EINVAL/);
    expect(() => setThreadAffinity(100_000)).toThrow(/EINVAL/);
  });

  kernelTest('membarrier does not hold the event loop', ['membarrier'], async () => {
    let turns = 0;
    const state = { done: false };
    void membarrier().then(() => (state.done = true));
    while (!state.done) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
    }
    expect(turns).toBeGreaterThan(0);
  });

  test('capabilities are those of the process', () => {
    const held = capabilities();
    const bare = spawnSync(
      'setpriv',
      ['--reuid', '65534', '--clear-groups', '--bounding-set', '-all', 'grep', 'CapEff', '/proc/self/status'],
      { encoding: 'utf8' },
    );
    if (held.sysAdmin) expect(bare.stdout).toMatch(/CapEff:\s+0+$/m);
    expect(Object.keys(held)).toEqual(['bpf', 'netAdmin', 'netRaw', 'perfmon', 'sysAdmin']);
  });
});

/** What the first call of a process says whose addon is at this path. */
function use(addon: string): ReturnType<typeof spawnSync> {
  const script = `
    import { monotonic } from ${JSON.stringify(new URL('../../src/kernel/index.ts', import.meta.url).pathname)};
    try { monotonic(); } catch (error) { process.stdout.write(error.code + ' ' + error.exit + ' ' + error.message); }`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    env: { ...process.env, SLUICE_ADDON: addon },
  });
}

/** The runtime opens some of its own when it likes. */
const open = (): number => descriptors().size;

describe('the addon', () => {
  test('that is missing or damaged is ADDON_MISSING, not a crash', () => {
    expect(use('/nowhere/sluice.node').stdout).toMatch(/^ADDON_MISSING 3 .*\/nowhere\/sluice.node/);
    expect(use(new URL(import.meta.url).pathname).stdout).toMatch(/^ADDON_MISSING 3 /);
    expect(lacking('libpcap.so.0.8')).toMatch(/libpcap0\.8/);
    expect(lacking('libelf.so.1')).toMatch(/it is in libelf1/);
    expect(lacking('libother.so.1')).toMatch(/npm run build/);
    expect(addonHelp("libc.so.6: version `GLIBC_2.34' not found (required by …)")).toMatch(/Debian 12/);
    expect(addonHelp('…/sluice.node: wrong ELF class: ELFCLASS32')).toMatch(/another processor/);
  });

  kernelTest(
    'of a worker that is terminated lets go of everything, in the middle of its work',
    ['packetRing', 'ringBuffer'],
    async () => {
      const before = open();
      for (let round = 0; round < 3; round++) {
        const worker = new Worker(new URL('../long/fixtures/exercise-worker.ts', import.meta.url));
        await new Promise((resolve, reject) => {
          worker.once('message', resolve);
          worker.once('error', reject);
        });
        expect(open()).toBeGreaterThan(before + 10);
        await worker.terminate();
      }
      await until(() => open() <= before, 'descriptors stay open');
    },
  );
});

describe('locks', () => {
  test('one holder at a time; freed by release', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-lock-'));
    const path = join(folder, 'lock');
    try {
      const first = lockFile(path);
      expect(first).toBeDefined();
      expect(lockFile(path)).toBeUndefined();
      expect(spawnSync('flock', ['--nonblock', path, 'true']).status).toBe(1);
      first?.release();
      first?.release();
      using again = lockFile(path);
      expect(again).toBeDefined();
      expect(() => lockFile(join(folder, 'none', 'lock'))).toThrow(/ENOENT/);
      // The file goes with the lock, but only when it is still the one that others would find.
      again?.remove();
      expect(existsSync(path)).toBe(false);
      using old = lockFile(path);
      rmSync(path);
      using current = lockFile(path);
      expect([old?.current, current?.current]).toEqual([false, true]);
      old?.remove();
      expect(existsSync(path)).toBe(true);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('probes', () => {
  test('every feature answers with one of three states', () => {
    for (const [feature, result] of Object.entries(probeAll())) {
      expect(FEATURES).toContain(feature);
      if (result.state === 'unsupported') expect(result.since).toMatch(/^\d+\.\d+$/);
      if (result.state === 'inconclusive') expect(result.cause).not.toBe('');
    }
  });

  kernelTest(
    'with privilege no answer is inconclusive, and what every supported kernel has is there',
    [],
    () => {
      for (const feature of FEATURES) expect(probe(feature).state).not.toBe('inconclusive');
      for (const feature of [
        'syscallProgram',
        'ringBuffer',
        'coarseClock',
        'xdpLink',
        'packetRing',
      ] as const) {
        expect(probe(feature)).toEqual({ state: 'supported' });
      }
    },
  );

  kernelTest('without privilege the answers are inconclusive and name the cause', [], () => {
    const script = `
      import { probeAll } from ${JSON.stringify(new URL('../../src/kernel/index.ts', import.meta.url).pathname)};
      process.stdout.write(JSON.stringify(probeAll()));`;
    const child = spawnSync(
      'setpriv',
      [
        '--bounding-set',
        '-all',
        '--inh-caps',
        '-all',
        '--ambient-caps',
        '-all',
        '--securebits',
        '+noroot',
        process.execPath,
        '--input-type=module',
        '-e',
        script,
      ],
      { encoding: 'utf8' },
    );
    expect(child.stderr).toBe('');
    const answers = JSON.parse(child.stdout) as Record<string, { state: string; cause?: string }>;
    expect(answers['xdpLink']?.state).toBe('inconclusive');
    expect(answers['xdpLink']?.cause).toMatch(/EPERM/);
    expect(answers['packetRing']?.state).toBe('inconclusive');
    expect(answers['membarrier']?.state).toBe('supported');
  });
});

describe('netlink messages', () => {
  test('what is built is read back', () => {
    const bytes = request(18, 'dump', concat(new Uint8Array(16), attribute(3, 'eth0'), attribute(4, 1500)));
    const [message] = messages(bytes);
    expect(message?.type).toBe(18);
    const found = attributes(message?.body ?? new DataView(new ArrayBuffer(0)), 16);
    expect(textOf(found.get(3))).toBe('eth0');
    expect(found.get(4)?.getUint32(0, true)).toBe(1500);
  });

  test('any bytes are read without a throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        for (const { body } of messages(bytes))
          for (const value of attributes(body, 0).values()) textOf(value);
      }),
    );
  });
});
