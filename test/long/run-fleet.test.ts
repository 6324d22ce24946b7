import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import type { RuleRow, StatusReport } from '../../src/gate/control-protocol.ts';
import { PacketSender } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { eventually } from '../gate/daemon-support.ts';
import { LogDir, runOn } from '../sensor/run.ts';
import { sluice } from '../support/command.ts';
import { Desk, LONGEST } from '../support/desk.ts';
import { kernelTest, ownNetns, vethPair } from '../support/kernel.ts';
import { NatsServer } from '../support/nats-server.ts';

ownNetns();

const directory = mkdtempSync(join(tmpdir(), 'sluice-run-fleet-'));
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20 }));

const FEATURES = ['xdpFrags', 'syscallProgram', 'packetRing'] as const;
const frame = eth()
  .ipv4({ src: '10.9.0.1', dst: '10.9.0.2' })
  .udp({ sport: 5000, dport: 53 })
  .payload('x')
  .bytes();

async function rules(ifname: string): Promise<RuleRow[]> {
  const { code, stdout, stderr } = await sluice('rule', 'ls', '-i', ifname, '--json');
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as RuleRow[];
}
const inForce = (ifname: string, wanted: string[]): Promise<true> =>
  eventually(
    async () =>
      (await rules(ifname))
        .map(({ id }) => id)
        .sort()
        .join() === wanted.join()
        ? true
        : undefined,
    `not exactly ${wanted.join()} in force on ${ifname}`,
    LONGEST,
  );
const statusOf = async (ifname: string): Promise<StatusReport> =>
  JSON.parse((await sluice('gate', 'status', '-i', ifname, '--json')).stdout) as StatusReport;

kernelTest(
  'sluice run follows signed rules on two interfaces, beside its own, and goes on with them when the source is away',
  [...FEATURES],
  async () => {
    const first = vethPair();
    const second = vethPair();
    using logs = new LogDir();
    const desk = await Desk.open(directory);
    await using server = new NatsServer(directory);
    await server.start();
    const url = server.url('flood');
    const socket = join(directory, 'api.sock');
    const local = join(directory, 'local');
    const options = [...desk.options(url)].concat(
      ['-i', second.a, '--site', 'fra1', '--role', 'edge', '--workers', '1'],
      ['--mitigate', '--rule-store', local, '--api', `unix:${socket}`],
    );
    await desk.publish(
      [
        await desk.sign('dns', 'udp dst port 53', '--site', 'fra1', '--role', 'edge'),
        await desk.sign('one', 'tcp dst port 81', '--on-interface', second.a),
        await desk.sign('far', 'tcp', '--site', 'ams1'),
      ],
      url,
    );
    {
      await using run = await runOn(first.a, logs, ...options).ready();
      await inForce(first.a, ['fleet-dns']);
      await inForce(second.a, ['fleet-dns', 'fleet-one']);
      using sender = new PacketSender(first.b);
      await eventually(async () => {
        sender.send(frame, new Uint32Array([0, frame.length]));
        return (await rules(first.a)).find(({ dropped }) => dropped.pkts > 0);
      }, 'nothing is dropped');
      expect((await statusOf(second.a)).fleet).toMatchObject({
        source: server.bareUrl('flood'),
        connected: true,
        problem: null,
        rules: 3,
        inForce: 2,
      });
      const { stdout } = await sluice('gate', 'status', '-i', first.a);
      expect(stdout).toMatch(/rules from +nats:.*heard of \d+ s ago\n/);
      const api = await get(socket, '/v1/fleet');
      expect(api).toMatchObject([
        { interface: first.a, inForce: 1 },
        { interface: second.a, inForce: 2 },
      ]);
      const results = await eventually(
        async () => {
          const { stdout: text } = await sluice('rule', 'results', '--from', url, '--json');
          const edges = JSON.parse(text) as { interface: string; site: string; rules: { state: string }[] }[];
          const ours = edges.find((edge) => edge.interface === second.a);
          return ours?.rules.filter(({ state }) => state === 'in force').length === 2 ? ours : undefined;
        },
        'the results are not told',
        LONGEST,
      );
      expect(results).toMatchObject({ site: 'fra1', roles: ['edge'] });
      // Somebody at the gate has a rule of their own, and the last word.
      expect((await sluice('rule', 'add', 'tcp dst port 99', '--id', 'own', '-i', first.a)).code).toBe(0);
      expect((await sluice('rule', 'rm', 'fleet-one', '-i', second.a)).code).toBe(0);
      await desk.publish([await desk.sign('two', 'tcp dst port 82')], url);
      await inForce(first.a, ['fleet-dns', 'fleet-two', 'own']);
      await inForce(second.a, ['fleet-dns', 'fleet-two']);
      await server.stop();
      await eventually(
        async () => ((await statusOf(first.a)).fleet?.connected === false ? true : undefined),
        'the cut is not seen',
        LONGEST,
      );
      expect((await run.stop()).code).toBe(0);
    }
    const audit = readFileSync(join(logs.path, 'audit.log'), 'utf8');
    expect(audit).toMatch(/"op":"fleet\.live","key":"dns"/);
    for (const name of readdirSync(logs.path))
      expect(readFileSync(join(logs.path, name), 'utf8')).not.toContain('secret');
    // What it follows from now on is only what it kept, each interface for itself.
    for (const { a } of [first, second]) expect(existsSync(desk.store.replace('IFACE', a))).toBe(true);
    {
      await using run = await runOn(first.a, logs, ...options).ready();
      await inForce(first.a, ['fleet-dns', 'fleet-two', 'own']);
      await inForce(second.a, ['fleet-dns', 'fleet-one', 'fleet-two']);
      expect((await run.stop()).code).toBe(0);
    }
    // Without a source nothing that was signed is in force; what was added here is.
    {
      await using run = await runOn(
        first.a,
        logs,
        '--workers',
        '1',
        '--mitigate',
        '--rule-store',
        local,
      ).ready();
      await inForce(first.a, ['own']);
      expect((await run.stop()).code).toBe(0);
    }
    first.remove();
    second.remove();
  },
);

async function get(socketPath: string, path: string): Promise<unknown> {
  return await new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, headers: { host: 'localhost' } }, (response) => {
      let text = '';
      response.on('data', (part: Buffer) => (text += part.toString()));
      response.on('end', () => resolve(JSON.parse(text)));
    });
    asked.on('error', reject);
    asked.end();
  });
}

kernelTest('what sluice run cannot follow is said before it begins', [...FEATURES], async () => {
  const { a, remove } = vethPair();
  const other = vethPair();
  const desk = await Desk.open(directory);
  using logs = new LogDir();
  const code = async (...more: string[]): Promise<string> => {
    const { stdout } = await runOn(a, logs, '--duration', '1', ...more).end();
    return (JSON.parse(stdout) as { error?: { code: string } }).error?.code ?? 'none';
  };
  const follow = desk.options(desk.rules);
  expect(await code('--rules-from', desk.rules)).toBe('USAGE');
  expect(await code('--trust', `${desk.key}.pub`)).toBe('USAGE');
  expect(await code('--rules-from', 'gopher://x', '--trust', `${desk.key}.pub`)).toBe('USAGE');
  expect(await code('--rules-from', desk.rules, '--trust', join(directory, 'none'))).toBe('FILE');
  expect(await code(...follow, '--no-gate')).toBe('USAGE');
  expect(await code(...follow, '--mode', 'socket')).toBe('USAGE');
  const shared = [
    '--rules-from',
    desk.rules,
    '--trust',
    `${desk.key}.pub`,
    '--rules-store',
    join(directory, 's'),
  ];
  expect(await code('-i', other.a, ...shared)).toBe('USAGE');
  expect(
    await code('--rules-from', 'nats://x', '--trust', `${desk.key}.pub`, '--nats-creds', desk.rules),
  ).toBe('FILE');
  remove();
  other.remove();
});
