import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { apply, readState, type Step, statePath, undo } from '../../src/doctor/apply.ts';
import { proveFanout } from '../../src/doctor/facts/fanout-proof.ts';
import { gateCost } from '../../src/doctor/facts/gate-cost.ts';
import { gather } from '../../src/doctor/facts/index.ts';
import type { Area, Change } from '../../src/doctor/finding.ts';
import { reportSchema } from '../../src/doctor/report.ts';
import { commandOf, readSetting, writeSetting } from '../../src/doctor/settings.ts';
import {
  channelCounts,
  deviceFeatures,
  interfaces,
  LatencyRequest,
  netnsInode,
  openPacketRing,
} from '../../src/kernel/index.ts';
import { sluice } from '../support/command.ts';
import { ip, kernelTest, ownNetns, privileged, sh } from '../support/kernel.ts';

const quiet = { stop: new AbortController().signal, areas: new Set<Area>(), cost: false };
const dir = mkdtempSync(join(tmpdir(), 'sluice-doctor-'));
const state = join(dir, 'state.json');
const FORWARD = '/proc/sys/net/ipv4/ip_forward';

beforeAll(() => {
  ownNetns();
  if (!privileged()) return;
  ip('link add da type veth peer name db');
  for (const name of ['da', 'db']) ip(`link set ${name} addrgenmode none`);
});
afterAll(() => {
  rmSync(dir, { recursive: true });
  if (privileged()) ip('link del da');
});

const step = (change: Change): Step => ({
  check: 'test',
  risk: 'none',
  riskText: 'none',
  change,
  command: commandOf(change),
});
const feature = (name: string, value: string): Step =>
  step({ setting: { kind: 'feature', ifname: 'da', name }, value });
const file = (path: string, value: string): Step => step({ setting: { kind: 'file', path }, value });

/** Everything of the interfaces that a change could touch. */
const everything = () => ({
  features: { da: deviceFeatures('da'), db: deviceFeatures('db') },
  channels: { da: channelCounts('da'), db: channelCounts('db') },
  forward: readFileSync(FORWARD, 'utf8'),
  links: interfaces().map(({ name, mtu, up, addresses, routes }) => ({ name, mtu, up, addresses, routes })),
});

kernelTest('the hash of this kernel is proven, and the thread is back where it was', ['packetRing'], () => {
  const before = netnsInode();
  const proof = proveFanout();
  expect(proof).toEqual({ connections: 96, split: 0, used: 4 });
  expect(netnsInode()).toBe(before);
});

kernelTest('the gate is timed in this kernel', ['xdpFrags', 'coarseClock'], () => {
  const cost = gateCost();
  if (typeof cost === 'string') throw new Error(cost);
  expect(cost.pass).toBeGreaterThan(0);
  expect(cost.pass).toBeLessThan(100_000);
});

kernelTest('what is gathered here: interfaces, a sensor of another process, no sample', [], async () => {
  const machine = await gather({ interfaces: [], sample: 0, ...quiet });
  expect(machine.nics.map(({ name, kind }) => `${name} ${kind}`).toSorted()).toEqual(['da veth', 'db veth']);
  expect(machine.nics[0].peerTxQueues).toBeGreaterThan(0);
  expect(machine.sample).toBeUndefined();
  expect(machine.cpu.list.length).toBeGreaterThan(0);
  await expect(gather({ interfaces: ['nosuch0'], sample: 0, ...quiet })).rejects.toMatchObject({
    code: 'INTERFACE_UNKNOWN',
  });
});

describe('apply and undo', () => {
  kernelTest('settings come back exactly, the last first', [], () => {
    const before = everything();
    const gro = before.features.da?.['rx-gro'].wanted === true ? 'off' : 'on';
    const steps = [
      feature('rx-gro', gro),
      feature('tx-checksum-ip-generic', 'off'),
      step({ setting: { kind: 'channels', ifname: 'db', name: 'tx' }, value: '1' }),
      file(FORWARD, before.forward.trim() === '1' ? '0' : '1'),
    ];
    const changed = apply(steps, state);
    expect(changed.map(({ outcome }) => outcome)).not.toContain('refused');
    expect(changed.filter(({ outcome }) => outcome === 'done').length).toBeGreaterThanOrEqual(3);
    expect(everything()).not.toEqual(before);
    // A second time there is nothing to do, and what was before is still known.
    expect(apply(steps, state).every(({ outcome }) => outcome === 'same')).toBe(true);
    expect(undo(state).every(({ outcome }) => outcome === 'done' || outcome === 'same')).toBe(true);
    expect(everything()).toEqual(before);
    expect(readState(state)).toBeUndefined();
    expect(undo(state)).toEqual([]);
  });

  kernelTest('two rounds of changes go back to before the first', [], () => {
    const before = readSetting({ kind: 'file', path: FORWARD });
    const other = before === '1' ? '0' : '1';
    apply([file(FORWARD, other), feature('rx-gro', 'on')], state);
    apply([feature('rx-gro', 'off')], state);
    undo(state);
    expect(readSetting({ kind: 'file', path: FORWARD })).toBe(before);
  });

  kernelTest('what the machine refuses is told, and the others are made', [], () => {
    const before = everything();
    const results = apply(
      [
        step({ setting: { kind: 'ring', ifname: 'da' }, value: '512' }),
        step({ setting: { kind: 'channels', ifname: 'da', name: 'rx' }, value: '100000' }),
        file('/proc/sys/net/ipv4/nosuch', '1'),
        file('/etc/hostname', 'x'),
        file(FORWARD, before.forward.trim() === '1' ? '0' : '1'),
      ],
      state,
    );
    expect(results.map(({ outcome }) => outcome)).toEqual([
      'refused',
      'refused',
      'refused',
      'refused',
      'done',
    ]);
    expect(results[1].why).toMatch(/E[A-Z]+/);
    expect(readState(state)?.changes.length).toBe(1);
    undo(state);
    expect(everything()).toEqual(before);
  });

  kernelTest('what somebody has changed since is left alone, unless forced', [], () => {
    const path = '/proc/sys/net/ipv4/ip_default_ttl';
    const before = readFileSync(path, 'utf8').trim();
    apply([file(path, '77')], state);
    writeSetting({ kind: 'file', path }, '99');
    expect(undo(state)).toEqual([
      expect.objectContaining({
        outcome: 'left',
        from: '99',
        to: before,
        why: expect.stringContaining('--force'),
      }),
    ]);
    expect(readFileSync(path, 'utf8').trim()).toBe('99');
    expect(undo(state, true)).toEqual([expect.objectContaining({ outcome: 'done' })]);
    expect(readFileSync(path, 'utf8').trim()).toBe(before);
  });

  kernelTest('an end in the middle of a change is undone too', [], () => {
    const before = everything();
    apply([file(FORWARD, before.forward.trim() === '1' ? '0' : '1')], state);
    const noted = JSON.parse(readFileSync(state, 'utf8'));
    // Noted, and not made: as if the process had ended between the two.
    noted.changes.push({
      setting: { kind: 'feature', ifname: 'da', name: 'rx-gro' },
      before: readSetting({ kind: 'feature', ifname: 'da', name: 'rx-gro' }),
      after: 'on',
    });
    writeFileSync(state, JSON.stringify(noted));
    expect(undo(state).every(({ outcome }) => outcome === 'done' || outcome === 'same')).toBe(true);
    expect(everything()).toEqual(before);
  });

  test('a state that is not ours is refused, one of another boot is none', () => {
    writeFileSync(state, '{"version":1,"boot":"x","changes":[{"setting":{"kind":"file"}}]}');
    expect(() => undo(state)).toThrow(/is not what/);
    writeFileSync(state, 'nonsense');
    expect(() => readState(state)).toThrow(expect.objectContaining({ code: 'FILE_FORMAT' }));
    writeFileSync(state, JSON.stringify({ version: 1, boot: 'another', changes: [] }));
    expect(undo(state)).toEqual([]);
    expect(() => readFileSync(state)).toThrow(/ENOENT/);
  });

  test('paths outside of settings are not written, whatever the state says', () => {
    expect(readSetting({ kind: 'file', path: '/etc/hostname' })).toBeUndefined();
    expect(() => writeSetting({ kind: 'file', path: '/etc/hostname' }, 'x')).toThrow(/no setting/);
  });
});

describe('the command', () => {
  kernelTest('reports, plans, applies and undoes on a veth', ['packetRing'], async () => {
    sh('ethtool', '-K', 'da', 'gro', 'on');
    const before = everything();
    const json = await sluice('doctor', 'da', '--sample', '0', '--only', 'nic', '--json');
    const report = reportSchema.parse(JSON.parse(json.stdout));
    expect(report.interfaces).toEqual(['da']);
    const gro = report.findings.find(({ check }) => check === 'nic.gro');
    expect(gro).toMatchObject({ level: 'warning', fix: { commands: ['ethtool -K da rx-gro off'] } });

    const plan = await sluice('doctor', 'da', '--sample', '0', '--only', 'nic.gro', '--plan');
    expect([plan.code, plan.stdout]).toEqual([0, '# nic.gro\nethtool -K da rx-gro off\n']);
    expect(everything()).toEqual(before);

    const applied = await sluice('doctor', 'da', '--sample', '0', '--only', 'nic.gro', '--apply');
    expect(applied.code).toBe(0);
    expect(applied.stdout).toBe('changed    da: feature rx-gro: on → off\n');
    expect(deviceFeatures('da')?.['rx-gro'].on).toBe(false);
    expect((await sluice('doctor', 'da', '--sample', '0', '--only', 'nic.gro')).stdout).toContain(
      '1 of 1 ok',
    );

    const undone = await sluice('doctor', '--undo', '--json');
    expect([undone.code, JSON.parse(undone.stdout)]).toEqual([
      0,
      { results: [{ setting: 'da: feature rx-gro', outcome: 'done', from: 'off', to: 'on' }] },
    ]);
    expect(everything()).toEqual(before);
    expect(readState(statePath())).toBeUndefined();
    expect((await sluice('doctor', '--undo')).stderr).toContain('nothing to undo');
  });

  kernelTest('problems end with 1, and the report is there all the same', [], async () => {
    // A veth with fewer receive queues than its peer sends by.
    ip('link add dc numrxqueues 2 numtxqueues 2 type veth peer name dd numrxqueues 2 numtxqueues 2');
    try {
      sh('ethtool', '-L', 'dc', 'rx', '1');
      sh('ethtool', '-L', 'dd', 'tx', '2');
      const { code, stdout } = await sluice(
        'doctor',
        'dc',
        '--sample',
        '0',
        '--only',
        'nic.xdp-queues',
        '--json',
      );
      expect(code).toBe(1);
      expect(JSON.parse(stdout)).toMatchObject({
        summary: { problem: 1 },
        findings: [{ check: 'nic.xdp-queues', level: 'problem' }],
        error: { code: 'MACHINE' },
      });
      const text = await sluice('doctor', 'dc', '--sample', '0', '--only', 'nic.xdp-queues');
      expect(text.code).toBe(1);
      expect(text.stderr).toContain('error[MACHINE]: a problem was found: nic.xdp-queues');
    } finally {
      ip('link del dc');
    }
  });

  kernelTest('draws, counts time, knows the machine', [], async () => {
    const svg = join(dir, 'map.svg');
    expect(
      (await sluice('doctor', 'da', '--sample', '0', '--only', 'clock', '--map', svg)).code,
    ).toBeLessThan(2);
    expect(readFileSync(svg, 'utf8')).toMatch(/^<svg /);
    const budget = await sluice('doctor', 'da', '--sample', '0', '--only', 'clock', '--budget');
    expect([budget.code, budget.stdout]).toEqual([
      0,
      expect.stringMatching(/da: time for a packet at 10,000 Mbit\/s/),
    ]);
    expect(budget.stdout).toMatch(/gate: [\d,.]+ ns/);
    const facts = await sluice('doctor', 'da', '--sample', '0', '--only', 'clock', '--facts', '--json');
    expect(JSON.parse(facts.stdout)).toMatchObject({ nics: [{ name: 'da', driver: 'veth' }] });
  });

  kernelTest('what cannot be written is an error that says what to do', [], async () => {
    const { code, stderr } = await sluice(
      'doctor',
      'da',
      '--sample',
      '0',
      '--only',
      'clock',
      '--map',
      join(dir, 'none', 'map.svg'),
    );
    expect([code, stderr]).toEqual([1, expect.stringMatching(/error\[FILE\].*map\.svg[^]*help: --map FILE/)]);
    // A file where a folder should be.
    writeFileSync(join(dir, 'plain'), '');
    expect(() => apply([], join(dir, 'plain', 'state.json'))).toThrow(
      expect.objectContaining({ code: 'PRIVILEGE', help: expect.stringContaining('--plan') }),
    );
  });

  kernelTest('holds a configuration against the machine', [], async () => {
    const path = join(dir, 'node.cfg');
    writeFileSync(path, '[zeek]\ntype=standalone\nhost=localhost\ninterface=da\n');
    const { stdout } = await sluice(
      'doctor',
      'da',
      '--sample',
      '0',
      '--only',
      'clock.source',
      '--for',
      'zeek',
      '--sensor-config',
      path,
    );
    expect(stdout).toContain('warning  zeek.interface da: zeek: interface=da, lb_method=none');
    expect(stdout).toContain(`# for ${path}\n`);
    expect(stdout).toContain('interface=af_packet::da');
    const both = await sluice(
      'doctor',
      '--sample',
      '0',
      '--only',
      'clock',
      '--for',
      'zeek',
      '--sensor-config',
      path,
    );
    expect([both.code, both.stderr]).toEqual([2, expect.stringContaining('--for needs one interface')]);
    const none = await sluice(
      'doctor',
      'da',
      '--sample',
      '0',
      '--for',
      'suricata',
      '--sensor-config',
      join(dir, 'none'),
    );
    expect([none.code, none.stderr]).toEqual([1, expect.stringContaining('error[FILE]')]);
  });

  test.each<[string, string[], string]>([
    ['a check that is none', ['--only', 'nic.grow'], 'did you mean nic.gro?'],
    ['two ways at once', ['--plan', '--apply'], 'one of them at a time'],
    ['--force alone', ['--force'], 'sluice doctor --undo --force'],
    ['a configuration of nobody', ['--sensor-config', 'x'], '--for zeek or --for suricata'],
    ['a time that is none', ['--sample', 'soon'], 'sluice COMMAND --help'],
    ['a sensor that is not known', ['--for', 'snort'], 'sluice COMMAND --help'],
    ['an interface that is not there', ['nosuch0', '--sample', '0'], 'there '],
  ])('%s is a usage error that says what next', async (_, args, help) => {
    const { code, stderr } = await sluice('doctor', ...args);
    expect(code).toBe(2);
    expect(stderr).toContain(help);
  });

  test('the schema is JSON Schema, the help has examples', async () => {
    const schema = await sluice('doctor', '--schema');
    expect(JSON.parse(schema.stdout)).toMatchObject({
      type: 'object',
      properties: { findings: { type: 'array' } },
    });
    const help = await sluice('doctor', '--help');
    expect(help.stdout).toContain('sluice doctor eth1 --plan');
  });
});

kernelTest(
  'sensors of other processes are found by their sockets; our own are not',
  ['packetRing'],
  async () => {
    using _ = openPacketRing({ interface: 'da', blocks: 2, blockSize: 1 << 16 });
    const machine = await gather({ interfaces: ['da'], sample: 0, ...quiet });
    expect(machine.sensors.filter(({ pid }) => pid === process.pid)).toEqual([]);
  },
);

kernelTest('a latency request holds while it is open', [], (context) => {
  const device = '/dev/cpu_dma_latency';
  const held = (): number => {
    const bytes = readFileSync(device);
    return bytes.readInt32LE(0);
  };
  try {
    readFileSync(device);
  } catch {
    context.skip(`${device} is not there`);
  }
  using request = new LatencyRequest(3);
  expect(request.microseconds).toBe(3);
  expect(held()).toBeLessThanOrEqual(3);
});
