import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { createLab } from '../../lab/lab.ts';
import { namespaceInode, processesIn } from '../../lab/namespace.ts';
import { demoPlan } from '../../lab/plan.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { interfaces } from '../../src/kernel/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { watchTap } from '../lab/support.ts';
import { kernelTest, ownNetns, PATIENCE, until, vethPair } from '../support/kernel.ts';
import { killAt } from './killing.ts';
import { LogDir, pause, Run, runOn, runOnTap } from './run.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'] as const;

ownNetns();

kernelTest(
  'a killed run leaves nothing that acts, and the next one makes good what it finds',
  [...FEATURES],
  async () => {
    await using lab = await createLab({ mbps: 200 });
    using logs = new LogDir();
    const traffic = new AbortController();
    // Until it is told to end.
    const driven = runTraffic(lab, demoPlan(280), { signal: traffic.signal });
    try {
      const { recovered, dropped } = await killAt(lab, logs, [
        { when: () => Promise.resolve(), early: 500 },
        {
          when: async (run) => {
            run.process.kill('SIGTERM');
            await pause(40);
          },
          ends: true,
        },
        {
          when: async () => {
            const before = logs.shunts('start');
            await until(() => logs.shunts('start') > before + 8, 'nothing is shunted');
          },
        },
      ]);
      expect(recovered).toBeGreaterThan(0);
      expect(dropped).toBeGreaterThan(0);
    } finally {
      traffic.abort();
      await driven;
    }

    // One more kill in the middle of shunts; what the shunts would have dropped reaches the tap again.
    const file = join(logs.path, 'frames.pcap');
    const frames = conversation({ turns: [{ from: 'server', data: 3_000_000 }], close: 'none', gap: 0.0001 });
    writeFileSync(file, pcapFile(frames));
    const begun = logs.read('shunt').length;
    await using run = await runOnTap(lab, 'a', logs).ready();
    // The sensor takes its steps when packets come.
    for (const late = performance.now() + PATIENCE * 1000; logs.read('shunt').length === begun; ) {
      if (performance.now() > late) throw new Error('nothing is shunted');
      await lab.replay(file, { pps: 20_000 });
    }
    await run.stop('SIGKILL');
    const watch = await watchTap(lab, 'a', 64);
    await lab.replay(file, { pps: 20_000 });
    const seen = await watch.stop();
    expect(seen.lost).toBe(0);
    expect(seen.lengths).toEqual(frames.map(({ bytes }) => bytes.length));
    expect((await runOnTap(lab, 'a', logs, '--duration', '0.1').end()).code).toBe(0);
  },
);

/** Processes that this one has started, and theirs. */
function descendants(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const entry of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const parent = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${entry}/status`, 'utf8'))?.[1];
      parents.set(Number(entry), Number(parent));
    } catch {
      // Ended meanwhile.
    }
  }
  const found = [pid];
  for (const each of found) for (const [child, parent] of parents) if (parent === each) found.push(child);
  return found.slice(1);
}

kernelTest('a killed lab takes its namespaces, processes and interfaces along', [...FEATURES], async () => {
  const { a, remove } = vethPair();
  using logs = new LogDir();
  try {
    const links = interfaces().map(({ name }) => name);
    await using owner = await new Run(['run', '--json', '--log-dir', logs.path]).ready();
    await until(() => logs.shunts('start') > 0, 'nothing is shunted');
    const here = namespaceInode('self');
    const children = descendants(owner.process.pid as number);
    const inodes = new Set(children.map((pid) => namespaceInode(pid) ?? 0));
    inodes.delete(here ?? 0);
    inodes.delete(0);
    // Client, server, hub, two taps, replay; what holds them, the servers, the clients, the sensor.
    expect(inodes.size).toBe(6);
    expect(children.length).toBeGreaterThanOrEqual(9);
    const left = (): string[] =>
      readdirSync('/sys/fs/bpf/sluice').filter((name) => inodes.has(Number(name.split('-')[0])));
    expect(left().length).toBeGreaterThan(0);
    await owner.stop('SIGKILL');
    await until(() => children.every((pid) => !existsSync(`/proc/${pid}`)), 'processes are left');
    expect(processesIn(inodes)).toEqual([]);
    expect(interfaces().map(({ name }) => name)).toEqual(links);
    // Its tables are pinned in a namespace that is gone: the next run, wherever, frees them.
    using others = new LogDir();
    expect(await runOn(a, others, '--duration', '0.2').end()).toMatchObject({ code: 0, signal: null });
    expect(left()).toEqual([]);
  } finally {
    remove();
  }
});
