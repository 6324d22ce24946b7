import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { ShuntRow, StatusReport } from '../../src/gate/control-protocol.ts';
import type { UpReport } from '../../src/gate/daemon-options.ts';
import { LAYOUT_VERSION } from '../../src/gate/layout.ts';
import {
  attachXdp,
  BpfMap,
  interfaceInfo,
  loadObject,
  MapType,
  netnsInode,
  xdpAttachment,
} from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { sluice } from '../support/command.ts';
import { bpfObject, ip, kernelTest, ownNetns, until, untilOperational } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';

ownNetns();

const A = '10.9.0.1';
const B = '10.9.0.2';
const FLOW = `udp ${A}:5000 ${B}:6000`;
const udp = (payload = 100) =>
  eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport: 6000 }).payload('x'.repeat(payload));
const back = () => eth().ipv4({ src: B, dst: A }).udp({ sport: 6000, dport: 5000 }).payload('y'.repeat(10));

const flow = (port: number) => ({ proto: 'udp', a: { addr: A, port }, b: { addr: B, port: 6000 } });
const reportOf = (text: string): UpReport => JSON.parse(text) as UpReport;
const errorOf = (text: string): string => (JSON.parse(text) as { error: { code: string } }).error.code;
const byProto = (rows: readonly ShuntRow[]): ShuntRow[] =>
  rows.toSorted((x, y) => y.proto.localeCompare(x.proto));
const statusOf = async (ifname: string): Promise<StatusReport> =>
  JSON.parse((await sluice('gate', 'status', '-i', ifname, '--json')).stdout) as StatusReport;
const pinsOf = (ifname: string): string =>
  join('/sys/fs/bpf/sluice', `${netnsInode()}-${interfaceInfo(ifname).index}`);

/** Gone, or no more than its entry in the table of processes. */
function ended(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}

kernelTest('up, a shunt by hand, its counters, and down', [], async () => {
  await using gate = UpGate.interfaces();
  const up = reportOf((await gate.start()).stdout);
  expect(up).toMatchObject({ interface: gate.ifname, mode: 'native' });
  const { index } = interfaceInfo(gate.ifname);
  expect(xdpAttachment(index)).toEqual({ mode: 'native', programId: up.programId });
  for (const path of Object.values(up.pins)) expect(existsSync(path), path).toBe(true);
  expect(Object.keys(up.pins)).toEqual(
    expect.arrayContaining(['flows4', 'link', 'sluice_gate', 'sluice_ops']),
  );

  gate.send(udp(), 3);
  const began = Date.now() / 1000;
  expect((await gate.shunt('add', '--flow', FLOW, '--why', 'a test')).code).toBe(0);
  gate.send(udp(), 10);
  gate.send(back(), 5);
  const [row, ...others] = await gate.rows();
  expect(others).toEqual([]);
  expect(row).toMatchObject({
    proto: 'udp',
    a: { addr: A, port: 5000 },
    b: { addr: B, port: 6000 },
    vlan: 0,
    innerVlan: 0,
    vni: 0,
    owner: '',
    trigger: 'manual',
    ab: { pkts: 10, bytes: 10 * 142, ipBytes: 10 * 128, payloadBytes: 1000 },
    ba: { pkts: 5, bytes: 5 * 52, ipBytes: 5 * 38, payloadBytes: 50 },
    tcp: null,
  });
  expect(row.since).toBeGreaterThanOrEqual(began - 1);
  expect(row.last).toBeGreaterThanOrEqual(began - 1);
  expect((row.expires as number) - (row.since as number)).toBeCloseTo(300, 3);

  const status = await gate.status();
  expect(status).toMatchObject({
    interface: gate.ifname,
    mode: 'native',
    programId: up.programId,
    daemon: { alive: true },
    seen: { pkts: 18 },
    shunted: { pkts: 15, bytes: 10 * 142 + 5 * 52 },
    passed: { pkts: 3 },
    tables: { flows4: { entries: 1, max: 65_536 }, flows6: { entries: 0 } },
  });

  expect((await gate.shunt('rm', '--flow', `udp ${B}:6000 ${A}:5000`)).code).toBe(0);
  expect(await gate.rows()).toEqual([]);
  gate.send(udp(), 2);
  expect(await gate.status()).toMatchObject({ passed: { pkts: 5 }, shunted: { pkts: 15 } });
  expect(gate.audit()).toEqual([
    expect.objectContaining({ op: 'gate.up' }),
    expect.objectContaining({
      op: 'add',
      uid: 0,
      pid: process.pid,
      key: FLOW,
      trigger: 'manual',
      why: 'a test',
    }),
    expect.objectContaining({ op: 'remove', uid: 0, key: FLOW }),
    expect.objectContaining({ op: 'end', key: FLOW, reason: 'asked', pkts: 15 }),
  ]);

  const pins = pinsOf(gate.ifname);
  const { pid } = status.daemon;
  expect((await sluice('gate', 'down', '--json')).stdout).toBe(
    `${JSON.stringify({ interface: gate.ifname, interfaces: [gate.ifname], down: true })}\n`,
  );
  expect(xdpAttachment(index)).toBeUndefined();
  expect(existsSync(pins)).toBe(false);
  await until(() => ended(pid as number), 'the daemon is still there');
  expect(readdirSync('/run/sluice')).not.toContain(`${netnsInode()}-${index}.lock`);
  const again = await sluice('gate', 'down', '-i', gate.ifname, '--json');
  expect([again.code, errorOf(again.stdout)]).toEqual([1, 'GATE_DOWN']);
});

kernelTest('a shunt that is there already, is not there, or is the host’s own', [], async () => {
  await using gate = UpGate.interfaces();
  ip(`addr add 10.9.7.1/24 dev ${gate.peer}`);
  await gate.start();
  const codes: string[] = [];
  const attempt = async (...args: string[]): Promise<void> => {
    const { code, stdout } = await gate.shunt(...args);
    codes.push(`${code} ${code === 0 ? '' : errorOf(stdout)}`.trim());
  };
  await attempt('add', '--flow', FLOW);
  await attempt('add', '--flow', FLOW);
  await attempt('rm', '--flow', `udp ${A}:1 ${B}:2`);
  await attempt('add', '--flow', `tcp 10.9.7.1:22 ${B}:40000`);
  await attempt('add', '--flow', FLOW, '--vlan', '7');
  await attempt('add', '--flow', FLOW, '--vni', '7');
  await attempt('add', '--flow', 'udp 10.9.0.1 10.9.0.2:6000');
  await attempt('add', '--flow', 'tcp 10.9.0.1:1 [2001:db8::1]:2');
  await attempt('add', '--flow', FLOW, '--ttl', '30d');
  expect(codes).toEqual([
    '0',
    '1 EXISTS',
    '1 NOT_FOUND',
    '1 REFUSED',
    '1 REFUSED',
    '1 REFUSED',
    '2 USAGE',
    '2 USAGE',
    '2 USAGE',
  ]);
});

kernelTest('IPv6, ICMP and VLAN keys are shunted by hand', [], async () => {
  await using gate = await UpGate.up('--vlan-key');
  const wide = { src: '2001:db8::1', dst: '2001:db8::2' };
  await gate.shunt('add', '--flow', 'udp [2001:db8::1]:7 [2001:db8::2]:8');
  await gate.shunt('add', '--flow', `icmp ${A} ${B}`);
  await gate.shunt('add', '--flow', FLOW, '--vlan', '100.7');
  gate.send(eth().ipv6(wide).udp({ sport: 7, dport: 8 }).payload('abc'), 2);
  gate.send(eth().ipv4({ src: A, dst: B }).icmp({ type: 8, code: 0 }).payload('abc'), 3);
  gate.send(
    eth().vlan(100).vlan(7).ipv4({ src: A, dst: B }).udp({ sport: 5000, dport: 6000 }).payload('abc'),
    4,
  );
  gate.send(udp(), 5);
  const rows = (await gate.rows()).toSorted((x, y) => x.ab.pkts - y.ab.pkts);
  expect(rows.map(({ proto, a, vlan, innerVlan, ab }) => [proto, a.addr, vlan, innerVlan, ab.pkts])).toEqual([
    ['udp', '2001:db8::1', 0, 0, 2],
    ['icmp', A, 0, 0, 3],
    ['udp', A, 100, 7, 4],
  ]);
  // Two tags are part of the frames of the last one.
  expect(rows[2].ab.bytes - rows[2].ab.ipBytes).toBe(4 * 22);
  expect(await gate.status()).toMatchObject({ vlanKey: true, shunted: { pkts: 9 }, passed: { pkts: 5 } });
});

kernelTest('time by hand is over after the time to live, idle or not', [], async () => {
  await using gate = await UpGate.up();
  await gate.shunt('add', '--flow', FLOW, '--ttl', '1');
  const end = await eventually(async () => {
    gate.send(udp());
    return gate.audit().find(({ op }) => op === 'end');
  }, 'it is still shunted');
  expect(end).toMatchObject({ key: FLOW, reason: 'limit' });
  expect(await gate.rows()).toEqual([]);
});

kernelTest('a killed daemon leaves the gate, which is read, taken over and taken down', [], async () => {
  await using gate = await UpGate.up();
  await gate.shunt('add', '--flow', FLOW, '--ttl', '600');
  using client = await gate.connect();
  await client.ask('owner.register', { name: 'sensor', lease: 3600 });
  await client.ask('add', {
    owner: 'sensor',
    flows: [
      {
        proto: 'tcp',
        a: { addr: A, port: 1 },
        b: { addr: B, port: 2 },
        seq: [7, 8],
        ack: [8, 7],
        trigger: 'mine',
      },
    ],
  });
  gate.send(udp(), 4);
  const was = await gate.rows();
  const before = await gate.status();
  process.kill(before.daemon.pid as number, 'SIGKILL');
  await until(() => ended(before.daemon.pid as number), 'the daemon is still there');
  await client.closed;

  // It goes on without anybody, and is read through its pins.
  gate.send(udp(), 6);
  const dead = await gate.status();
  expect(dead).toMatchObject({
    daemon: { alive: false },
    mode: 'native',
    programId: before.programId,
    shunted: { pkts: 10 },
    owners: [{ name: 'sensor', lapsed: false }],
    tables: { flows4: { entries: 2 } },
  });
  // Read from the table, in whatever order it has.
  expect(byProto(await gate.rows())).toMatchObject([
    { proto: 'udp', ab: { pkts: 10 } },
    { proto: 'tcp', ab: { pkts: 0 } },
  ]);
  const add = await gate.shunt('add', '--flow', `udp ${A}:1 ${B}:2`);
  expect([add.code, errorOf(add.stdout)]).toEqual([1, 'GATE_DOWN']);
  const run = await sluice('run', '-i', gate.ifname, '--tap', '--json', '--log-dir', gate.logDir);
  expect([run.code, errorOf(run.stdout)]).toEqual([1, 'INTERFACE_BUSY']);
  expect(run.stderr).toContain('gate down');

  const again = reportOf((await gate.start()).stdout);
  gate.send(udp(), 5);
  expect(xdpAttachment(interfaceInfo(gate.ifname).index)?.programId).toBe(again.programId);
  // The next daemon knows what this one knew of each entry.
  const rows = byProto(await gate.rows());
  expect(rows).toMatchObject([
    { trigger: 'manual', owner: '', ab: { pkts: 15 } },
    { trigger: 'mine', owner: 'sensor', tcp: was.find(({ proto }) => proto === 'tcp')?.tcp },
  ]);
  expect(rows.map(({ since }) => since)).toEqual(byProto(was).map(({ since }) => since));
  expect(await gate.status()).toMatchObject({ shunted: { pkts: 15 }, owners: [{ name: 'sensor' }] });
  expect((await gate.shunt('rm', '--flow', FLOW)).code).toBe(0);

  const { pid } = (await gate.status()).daemon;
  process.kill(pid as number, 'SIGKILL');
  await until(() => ended(pid as number), 'the daemon is still there');
  const pins = pinsOf(gate.ifname);
  expect((await sluice('gate', 'down', '-i', gate.ifname)).code).toBe(0);
  expect(existsSync(pins)).toBe(false);
  expect(xdpAttachment(interfaceInfo(gate.ifname).index)).toBeUndefined();
});

kernelTest('without its daemon an entry lapses by itself', [], async () => {
  // Seconds; more than passes until the daemon is killed.
  const LEFT = 4;
  await using gate = await UpGate.up();
  using client = await gate.connect();
  await client.ask('owner.register', { name: 'sensor', lease: LEFT });
  const flow = { proto: 'udp', a: { addr: A, port: 5000 }, b: { addr: B, port: 6000 } };
  await client.ask('add', { owner: 'sensor', flows: [flow] });
  await gate.shunt('add', '--flow', `udp ${A}:5001 ${B}:6000`, '--ttl', String(LEFT));
  const other = eth().ipv4({ src: A, dst: B }).udp({ sport: 5001, dport: 6000 });
  gate.send(udp());
  gate.send(other);
  const { pid, shunted } = await gate
    .status()
    .then((status) => ({ pid: status.daemon.pid, shunted: status.shunted.pkts }));
  expect(shunted).toBe(2);
  process.kill(pid as number, 'SIGKILL');
  await new Promise((resolve) => setTimeout(resolve, 1000 * LEFT + 1500));
  gate.send(udp(), 3);
  gate.send(other, 3);
  expect(await gate.status()).toMatchObject({
    daemon: { alive: false },
    shunted: { pkts: 2 },
    passed: { pkts: 6 },
  });
});

kernelTest('another size makes a new table, under the gate that is attached', [], async () => {
  await using gate = await UpGate.up('--max-shunts4', '100');
  await gate.shunt('add', '--flow', FLOW);
  const { pid } = (await gate.status()).daemon;
  process.kill(pid as number, 'SIGKILL');
  await until(() => ended(pid as number), 'the daemon is still there');
  const { code, stderr } = await gate.start('--max-shunts4', '200');
  expect([code, stderr]).toEqual([0, expect.stringContaining('removed 1 shunts')]);
  expect(await gate.status()).toMatchObject({ tables: { flows4: { entries: 0, max: 200 } } });
  gate.send(udp(), 2);
  expect(await gate.status()).toMatchObject({ seen: { pkts: 2 }, passed: { pkts: 2 } });
});

kernelTest('tables get another size with all that is in them', [], async () => {
  await using gate = await UpGate.up('--max-shunts4', '100');
  using client = await gate.connect();
  await client.ask('owner.register', { name: 'sensor', lease: 60 });
  const flows = Array.from({ length: 100 }, (_, i) => flow(i + 1));
  await client.ask('add', { owner: 'sensor', flows });
  const full = await client.ask<{ results: { error?: { code: string } }[] }>('add', {
    owner: 'sensor',
    flows: [flow(5000)],
  });
  expect(full.results[0].error?.code).toBe('MAP_FULL');
  const sendAll = (): void => {
    for (let port = 1; port <= 100; port++)
      gate.send(eth().ipv4({ src: A, dst: B }).udp({ sport: port, dport: 6000 }).payload('x'.repeat(100)));
  };
  sendAll();
  const { pins } = await gate.status();
  const small = await sluice('gate', 'resize', '--max-shunts4', '99', '--json');
  expect([small.code, errorOf(small.stdout)]).toEqual([1, 'LIMIT']);
  const resized = await sluice('gate', 'resize', '--max-shunts4', '5000', '--max-shunts6', '10', '--json');
  expect(JSON.parse(resized.stdout)).toEqual({
    tables: { flows4: { entries: 100, max: 5000 }, flows6: { entries: 0, max: 10 } },
  });
  sendAll();
  const rows = await gate.rows();
  expect(rows.map(({ ab, owner }) => [ab.pkts, ab.payloadBytes, owner])).toEqual(
    rows.map(() => [2, 200, 'sensor']),
  );
  expect(rows).toHaveLength(100);
  await client.ask('add', { owner: 'sensor', flows: [flow(5000)] });
  gate.send(udp());
  expect(await gate.status()).toMatchObject({ shunted: { pkts: 201 }, passed: { pkts: 0 } });
  // What is pinned is the new table.
  using pinned = BpfMap.openPinned(pins['flows4'], true);
  expect(pinned.maxEntries).toBe(5000);
  await client.ask('remove', { flows: [flow(1)] });
  // And the next daemon takes it over.
  process.kill((await gate.status()).daemon.pid as number, 'SIGKILL');
  await client.closed;
  expect((await gate.start('--max-shunts4', '5000', '--max-shunts6', '10')).code).toBe(0);
  using next = await gate.connect();
  expect(await next.ask('owner.unregister', { name: 'sensor' })).toEqual({ ended: 100 });
});

kernelTest('two gates stand side by side, and are told apart', [], async () => {
  await using one = await UpGate.up();
  await using two = await UpGate.up('--mode', 'generic');
  await one.shunt('add', '--flow', FLOW);
  one.send(udp(), 2);
  two.send(udp(), 3);
  expect(await one.status()).toMatchObject({ mode: 'native', shunted: { pkts: 2 }, passed: { pkts: 0 } });
  expect(await two.status()).toMatchObject({ mode: 'generic', shunted: { pkts: 0 }, passed: { pkts: 3 } });
  await two.shunt('add', '--flow', FLOW);
  two.send(udp(), 4);
  expect(await two.rows()).toMatchObject([{ ab: { pkts: 4 } }]);
  const unnamed = await sluice('gate', 'status', '--json');
  expect([unnamed.code, errorOf(unnamed.stdout)]).toEqual([2, 'USAGE']);
  expect(unnamed.stderr).toContain(`${one.ifname}, ${two.ifname}`);
});

kernelTest('of two that start at once, one has the interface', [], async () => {
  await using gate = UpGate.interfaces();
  const both = await Promise.all([gate.start(), gate.start()]);
  expect(both.map(({ code }) => code).toSorted((x, y) => Number(x) - Number(y))).toEqual([0, 1]);
  const lost = both.find(({ code }) => code === 1);
  expect(errorOf(lost?.stdout ?? '')).toBe('INTERFACE_BUSY');
  expect((await gate.status()).daemon.alive).toBe(true);
});

kernelTest('a foreign program is named and left alone', [], async () => {
  await using gate = UpGate.interfaces();
  const { index: ifindex } = interfaceInfo(gate.ifname);
  using object = loadObject(bpfObject('lab_pass'));
  const [program] = object.programs.values();
  using link = attachXdp({ program, ifindex, mode: 'native' });
  const { code, stdout, stderr } = await gate.start();
  expect([code, errorOf(stdout)]).toEqual([1, 'INTERFACE_BUSY']);
  expect(stderr).toContain(`${program.name} (id ${program.id})`);
  expect(xdpAttachment(ifindex)?.programId).toBe(link.info().programId);
  expect(existsSync(pinsOf(gate.ifname))).toBe(false);
});

kernelTest('offload that the interface cannot do is named, with the next best', [], async () => {
  await using gate = UpGate.interfaces();
  const { code, stdout, stderr } = await gate.start('--mode', 'offload');
  expect([code, errorOf(stdout)]).toEqual([3, 'KERNEL_FEATURE']);
  expect(stderr).toContain('--mode native');
  expect(existsSync(pinsOf(gate.ifname))).toBe(false);
});

kernelTest('pins of another layout stay, those that only look like ours are refused', [], async () => {
  await using gate = UpGate.interfaces();
  const parent = pinsOf(gate.ifname);
  const options = { type: MapType.array, keySize: 4, valueSize: 48, maxEntries: 1 };
  using stranger = BpfMap.create({ ...options, name: 'stranger' });
  const later = join(parent, `v${LAYOUT_VERSION + 1}`);
  const ours = join(parent, `v${LAYOUT_VERSION}`);
  mkdirSync(later, { recursive: true });
  stranger.pin(join(later, 'flows4'));
  try {
    expect((await gate.start()).code).toBe(0);
    expect((await sluice('gate', 'down', '-i', gate.ifname)).code).toBe(0);
    expect(existsSync(join(later, 'flows4'))).toBe(true);
    expect(existsSync(ours)).toBe(false);

    mkdirSync(ours);
    stranger.pin(join(ours, 'meta'));
    const { code, stdout } = await gate.start();
    expect([code, errorOf(stdout)]).toEqual([1, 'PIN_FOREIGN']);
    expect(existsSync(join(ours, 'meta'))).toBe(true);
    expect(xdpAttachment(interfaceInfo(gate.ifname).index)).toBeUndefined();
  } finally {
    rmSync(parent, { recursive: true });
    // The lock file stays where pins do: the next one finds none.
    await gate.start();
  }
});

kernelTest('an interface with an address is refused', [], async () => {
  await using gate = UpGate.interfaces();
  ip(`addr add 10.9.8.1/24 dev ${gate.ifname}`);
  const { code, stdout } = await gate.start();
  expect([code, errorOf(stdout)]).toEqual([2, 'INTERFACE_IN_USE']);
});

kernelTest('an interface that goes down, gets another name and another MTU keeps its gate', [], async () => {
  await using gate = await UpGate.up();
  const { programId } = await gate.status();
  await gate.shunt('add', '--flow', FLOW);
  gate.send(udp(), 2);
  const other = `${gate.ifname.slice(0, 10)}-r`;
  ip(`link set ${gate.ifname} down`);
  ip(`link set ${gate.ifname} name ${other}`);
  ip(`link set ${other} mtu 1400`);
  ip(`link set ${other} up`);
  untilOperational(other, gate.peer);
  expect(await statusOf(other)).toMatchObject({ interface: other, programId, mode: 'native' });
  gate.send(udp(), 3);
  expect(await statusOf(other)).toMatchObject({
    shunted: { pkts: 5 },
    tables: { flows4: { entries: 1 } },
    daemon: { alive: true },
  });
  // By the old name it is found again once it has that.
  ip(`link set ${other} down`);
  ip(`link set ${other} name ${gate.ifname}`);
  ip(`link set ${gate.ifname} up`);
  expect((await gate.rows())[0]).toMatchObject({ ab: { pkts: 5 } });
});

kernelTest('the daemon ends when its interface goes, and leaves nothing', [], async () => {
  await using gate = await UpGate.up();
  const { pid } = (await gate.status()).daemon;
  const pins = pinsOf(gate.ifname);
  gate.removeInterfaces();
  await until(() => ended(pid as number), 'the daemon is still there');
  expect(existsSync(pins)).toBe(false);
});
