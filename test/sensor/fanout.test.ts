import { readdirSync, readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { fragmentsOf, numbered, packetOf, randomEnds, randomOf } from '../../bench/fanout-frames.ts';
import { allowedCpus, interfaceCounters } from '../../src/kernel/index.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { documentOf, Feed, LogDir, Run, runOn, sumOf } from './run.ts';

ownNetns();

const FLOWS = 60;

kernelTest(
  'four workers by our program: a connection in fragments has one record, and cut packets count whole',
  ['packetRing'],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      const random = randomOf(9);
      const frames = Array.from({ length: FLOWS }, (_, i) => {
        const ends = { ...randomEnds(random), protocol: 'udp' as const };
        return [...fragmentsOf(numbered(i), ends, i, 1400), packetOf(numbered(i), ends, 1000).bytes()];
      }).flat();
      const options = ['--workers', '4', '--no-gate', '--fanout', 'ebpf', '--pin-workers', 'auto', '-v'];
      await using run = await runOn(b, logs, ...options, '--snaplen', '700').ready();
      expect(run.stderr).toMatch(/4 workers, fanout ebpf/);
      const feed = new Feed(a, frames, 5000);
      await feed.done;
      await until(() => interfaceCounters(b).rxPackets >= frames.length, 'frames are missing');
      const summary = documentOf(await run.stop());
      expect(summary).toMatchObject({
        connections: FLOWS,
        ring: { packets: frames.length, drops: 0, freezes: 0 },
      });
      const conn = logs.read('conn');
      expect(conn).toHaveLength(FLOWS);
      expect(sumOf(conn, 'orig_bytes')).toBe(FLOWS * (1400 + 1000));
      const workers = logs.read('stats').filter((line) => line['worker'] !== undefined);
      expect(workers.filter((line) => Number(line['pkts_proc']) > 0)).toHaveLength(4);
      for (const line of workers) expect(line['ring_freezes']).toBe(0);
    } finally {
      remove();
    }
  },
);

for (const [capture, features] of [
  ['ring', ['packetRing']],
  ['afxdp', ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'xdpSocket']],
] as const)
  kernelTest(`a worker is pinned, with --capture ${capture}`, [...features], async () => {
    const { b, remove } = vethPair();
    using logs = new LogDir();
    const allowed = allowedCpus();
    // The last of them: no other thread of a run is confined to it.
    const cpu = String(allowed[allowed.length - 1]);
    try {
      const options = ['--capture', capture, '--pin-workers', cpu];
      await using run = await runOn(b, logs, ...options).ready();
      const tasks = `/proc/${run.process.pid}/task`;
      const confined = readdirSync(tasks).filter((id) =>
        readFileSync(`${tasks}/${id}/status`, 'latin1').includes(`Cpus_allowed_list:\t${cpu}\n`),
      );
      // With one CPU to run on, all threads are.
      expect(confined).toHaveLength(allowed.length === 1 ? readdirSync(tasks).length : 1);
      await run.stop();
    } finally {
      remove();
    }
  });

kernelTest('what contradicts itself, or names a CPU that is not there, is refused', [], async () => {
  const { b, remove } = vethPair();
  try {
    for (const [options, problem] of [
      [['--fanout', 'hash', '--fanout-key', 'pair'], /fanout-key.*does not go together with.*fanout/],
      [['--fanout', 'rollover', '--fanout-rollover'], /fanout-rollover.*does not go together with.*fanout/],
      [['--snaplen', '10'], /must be from 128/],
      [['--pin-workers', '8000'], /cannot run on CPU 8000/],
      [['--pin-workers', 'near'], /off, auto or a list of CPUs/],
    ] as const) {
      await using run = new Run(['run', '-i', b, '--no-gate', ...options]);
      const { code, stderr } = await run.end();
      expect([code, stderr]).toEqual([2, expect.stringMatching(problem)]);
    }
  } finally {
    remove();
  }
});

kernelTest(
  'without leave to load programs: the hash of the kernel, which is told',
  ['packetRing'],
  async () => {
    const { b, remove } = vethPair();
    using logs = new LogDir();
    try {
      const lessRoot = ['setpriv', '--bounding-set=-bpf,-sys_admin'];
      const args = ['run', '-i', b, '--no-gate', '--workers', '2', '--log-dir', logs.path];
      const { code, stderr } = await new Run([...args, '--duration', '0.2'], lessRoot).end();
      expect([code, stderr]).toEqual([
        0,
        expect.stringMatching(/fragments may come to another worker[^]*EPERM/),
      ]);
      expect(logs.read('notice')).toMatchObject([{ note: 'Sluice::Fanout' }]);
      // Who asks for it by name is told that it cannot be had.
      const asked = await new Run([...args, '--fanout', 'ebpf'], lessRoot).end();
      expect([asked.code, asked.stderr]).toEqual([3, expect.stringMatching(/error\[PRIVILEGE\]/)]);
    } finally {
      remove();
    }
  },
);
