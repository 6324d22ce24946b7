import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, type TestContext } from 'vitest';
import { gateName } from '../../src/gate/control-places.ts';
import { LAYOUT_VERSION } from '../../src/gate/layout.ts';
import { interfaceInfo, packageRoot } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';

ownNetns();

const NOBODY = 65_534;
/** Seconds, as fixtures/syscall-owner.ts has it. */
const LEASE = 3;
const A = '10.1.0.1';
const B = '10.1.0.2';
const FLOW = `udp ${A}:5000 ${B}:6000`;
/** Of the rows of operations, the first that the daemon does not use itself. */
const ROW = 1024;
const udp = eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport: 6000 }).payload('abc');

function readable(context: TestContext): void {
  for (const command of [
    [process.execPath, '--version'],
    ['test', '-r', join(packageRoot(), 'src/cli/main.ts')],
  ] as [string, ...string[]][]) {
    const [file, ...args] = command;
    if (spawnSync(file, args, { uid: NOBODY, gid: NOBODY, cwd: '/' }).status !== 0)
      context.skip('this checkout is not readable by other users');
  }
}

function owner(gate: UpGate): ChildProcess {
  const script = new URL('./fixtures/syscall-owner.ts', import.meta.url).pathname;
  const name = gateName(interfaceInfo(gate.ifname).index);
  const pins = join('/sys/fs/bpf/sluice', name, `v${LAYOUT_VERSION}`);
  return spawn(process.execPath, [script, gate.ifname, pins, `${ROW}`, FLOW], {
    uid: NOBODY,
    gid: NOBODY,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

kernelTest(
  'an owner without privileges shunts through the pinned syscall program, and is let go when it dies',
  [],
  async (context) => {
    readable(context);
    await using gate = await UpGate.up('--pin-group', String(NOBODY), '--pin-mode', '0660');
    const child = owner(gate);
    try {
      let errors = '';
      child.stderr?.on('data', (data: Buffer) => (errors += data.toString()));
      const lines: Record<string, unknown>[] = [];
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) =>
        lines.push(JSON.parse(line) as Record<string, unknown>),
      );
      const closed = once(child, 'close');
      const first = await Promise.race([
        eventually(async () => lines[0], 'the owner says nothing'),
        closed.then(() => Promise.reject(new Error(errors))),
      ]);
      expect(first).toEqual({ uid: NOBODY, results: [0, 0] });
      gate.send(udp, 5);
      expect(await gate.status()).toMatchObject({ shunted: { pkts: 5 }, passed: { pkts: 0 } });
      // It reads its own counters, without asking the daemon.
      expect(await eventually(async () => lines.find(({ pkts }) => pkts === 5), 'no counters')).toBeDefined();
      // Longer than its lease, which it renews.
      await new Promise((resolve) => setTimeout(resolve, 1000 * LEASE + 500));
      gate.send(udp, 1);
      expect(await gate.status()).toMatchObject({ shunted: { pkts: 6 } });
      child.kill('SIGKILL');
      await closed;
      await new Promise((resolve) => setTimeout(resolve, 1000 * LEASE + 300));
      gate.send(udp, 2);
      expect(await gate.status()).toMatchObject({ shunted: { pkts: 6 }, passed: { pkts: 2 } });
    } finally {
      child.kill('SIGKILL');
    }
  },
);

kernelTest('pins that the group may only read do not let it run the program', [], async (context) => {
  readable(context);
  await using gate = await UpGate.up('--pin-group', String(NOBODY));
  const child = owner(gate);
  let errors = '';
  child.stderr?.on('data', (data: Buffer) => (errors += data.toString()));
  const [code] = (await once(child, 'close')) as [number];
  expect(code).not.toBe(0);
  expect(errors).toContain('PRIVILEGE');
  gate.send(udp, 2);
  expect(await gate.status()).toMatchObject({ shunted: { pkts: 0 }, passed: { pkts: 2 } });
});
