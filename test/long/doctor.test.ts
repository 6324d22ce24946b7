import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { type Report, reportSchema } from '../../src/doctor/report.ts';
import { allowedCpus, channelCounts, deviceFeatures, PacketSender } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { type Child, start } from '../support/command.ts';
import { ip, kernelTest, ownNetns, privileged, sh, until } from '../support/kernel.ts';

const dir = mkdtempSync(join(tmpdir(), 'sluice-doctor-'));
const program = fileURLToPath(new URL('../support/sluice.ts', import.meta.url));

beforeAll(() => {
  ownNetns();
  if (!privileged()) return;
  ip('link add qa numrxqueues 2 numtxqueues 2 type veth peer name qb numrxqueues 2 numtxqueues 2');
  for (const name of ['qa', 'qb']) {
    ip(`link set ${name} addrgenmode none`);
    ip(`link set ${name} up`);
  }
});
afterAll(() => {
  rmSync(dir, { recursive: true });
  if (privileged()) ip('link del qa');
});

/** In the namespace of this test, with a sysfs of its own: the one outside shows other interfaces. */
function inside(command: string): string {
  return sh('unshare', '-m', 'sh', '-c', `mount -t sysfs sysfs /sys && ${command}`);
}

const doctor = (...args: string[]): string =>
  inside(`{ '${process.execPath}' '${program}' doctor ${args.join(' ')}; true; }`);

/** All that changes could touch. */
const everything = () => ({
  features: { qa: deviceFeatures('qa'), qb: deviceFeatures('qb') },
  channels: { qa: channelCounts('qa'), qb: channelCounts('qb') },
  queues: inside('grep -r . /sys/class/net/qa/queues /sys/class/net/qb/queues 2>/dev/null || true')
    .split('\n')
    .filter((line) => /rps_|xps_/.test(line))
    .toSorted((a, b) => a.localeCompare(b)),
});

kernelTest('a machine that is set up badly is changed, and put back exactly', [], () => {
  for (const name of ['qa', 'qb']) sh('ethtool', '-L', name, 'rx', '2', 'tx', '2');
  sh('ethtool', '-K', 'qa', 'gro', 'on');
  inside('echo 1 > /sys/class/net/qa/queues/rx-1/rps_cpus');
  const before = everything();
  const only = ['--sample', '0', '--only', 'nic,irq', '--json'];
  const bad = reportSchema.parse(withoutError(doctor('qa', ...only)));
  const wanted = ['nic.gro', 'irq.rps'];
  const failing = (report: Report) =>
    report.findings
      .filter(({ level, check }) => level !== 'ok' && wanted.includes(check))
      .map(({ check }) => check);
  expect(failing(bad).toSorted((a, b) => a.localeCompare(b))).toEqual(['irq.rps', 'nic.gro']);

  const { results } = JSON.parse(doctor('qa', '--apply', ...only)) as {
    results: { setting: string; outcome: string }[];
  };
  expect(new Set(results.map(({ outcome }) => outcome))).toEqual(new Set(['done']));
  expect(results.map(({ setting }) => setting)).toEqual(
    expect.arrayContaining(['qa: feature rx-gro', '/sys/class/net/qa/queues/rx-1/rps_cpus']),
  );
  expect(failing(reportSchema.parse(withoutError(doctor('qa', ...only))))).toEqual([]);
  expect(everything()).not.toEqual(before);

  const undone = JSON.parse(doctor('--undo', '--json')) as {
    results: { outcome: string }[];
    error?: unknown;
  };
  expect(undone.results.map(({ outcome }) => outcome)).toEqual(results.map(() => 'done'));
  expect(undone.error).toBeUndefined();
  expect(everything()).toEqual(before);
});

function withoutError(text: string): unknown {
  const { error: _, ...report } = JSON.parse(text) as Record<string, unknown>;
  return report;
}

describe('beside a sensor that works', () => {
  let sensor: { child: Child; outcome: ReturnType<typeof start>['outcome'] } | undefined;
  // Containers hide it.
  const latency = existsSync('/dev/cpu_dma_latency');
  const held = (): number => (latency ? readFileSync('/dev/cpu_dma_latency').readInt32LE(0) : 0);

  kernelTest(
    'it is found with its workers, its fanout group and its cost; --low-latency holds while it runs',
    ['packetRing'],
    async () => {
      const cpus = allowedCpus();
      const before = held();
      const options = ['-i', 'qa', '--tap', '--no-gate', '--workers', '2', '--fanout', 'hash', '-v'];
      options.push('--pin-workers', String(cpus[0]), '--log-dir', join(dir, 'logs'));
      if (latency) options.push('--low-latency');
      sensor = start('run', ...options);
      let said = '';
      sensor.child.stderr.on('data', (data: Buffer) => (said += data.toString()));
      try {
        await until(() => /^ready$/m.test(said), 'the sensor is not ready', 240);
        if (latency) expect(said).toMatch(/processors wake within [12] µs/);
        expect(held()).toBeLessThanOrEqual(2);

        // Frames all the time that the doctor watches: it ends by itself.
        const watching = start('doctor', 'qa', '--sample', '3', '--json');
        const ended = new AbortController();
        void watching.outcome.finally(() => ended.abort());
        const frames = Array.from({ length: 64 }, (_, i) =>
          eth()
            .ipv4({ src: `10.0.0.${i}`, dst: '10.1.0.1' })
            .udp({ sport: 1000 + i, dport: 9 })
            .payload(200)
            .bytes(),
        );
        const offsets = Uint32Array.from({ length: frames.length + 1 }, (_, i) => i * frames[0].length);
        const all = Buffer.concat(frames);
        using sender = new PacketSender('qb');
        while (!ended.signal.aborted) {
          sender.send(all, offsets);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        const { stdout, stderr } = await watching.outcome;
        const report = reportSchema.parse(withoutError(stdout));
        expect(stderr).not.toContain('INTERNAL');

        const [map] = report.map;
        expect(map.elsewhere.map(({ cpu }) => cpu)).toEqual([cpus[0], cpus[0]]);
        for (const { worker } of map.elsewhere) expect(worker).toContain(`(${sensor.child.pid})`);
        const [{ measured, rows }] = report.budgets;
        expect(rows.map(({ size }) => size)).toContain('average');
        expect(measured.worker).toBeGreaterThan(0);
        expect(typeof measured.softirq).toBe('number');
        expect(measured.gate).toBeGreaterThan(0);
        const groups = report.findings.find(({ check }) => check === 'fanout.collision');
        if (groups !== undefined) expect(groups.evidence).toContain(`(${sensor.child.pid})`);
        expect(report.findings.find(({ check }) => check === 'nic.losses')?.evidence).toMatch(
          / of [\d,]+ packets/,
        );
      } finally {
        sensor.child.kill('SIGTERM');
        await sensor.outcome;
      }
      expect((await sensor.outcome).code).toBe(0);
      await until(() => held() === before, 'the latency request is still there');
    },
  );
});

kernelTest('without privileges: what is missing is said (exit 3), the rest is checked', [], () => {
  const text = sh(
    'sh',
    '-c',
    `setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all '${process.execPath}' '${program}' doctor qa --sample 0 --json; echo " $?"`,
  );
  const [, document, code] = /^(.*\}) ?\n? (\d+)\n$/s.exec(text) ?? [];
  expect(code).toBe('3');
  const { error, ...report } = JSON.parse(document) as { error: { code: string } };
  expect(error.code).toBe('PRIVILEGE');
  expect(reportSchema.parse(report).findings.find(({ check }) => check === 'bpf.capabilities')?.level).toBe(
    'problem',
  );
});
