import { expect } from 'vitest';
import type { UpReport } from '../../src/gate/daemon-options.ts';
import { attachXdp, loadObject, netnsInode, possibleCpus } from '../../src/kernel/index.ts';
import { type Outcome, sluice } from '../support/command.ts';
import { bpfObject, ip, kernelTest, ownNetns } from '../support/kernel.ts';
import { attachedTo, back, errorOf, FLOW, HOSTS, indexOf, Tap, there, traces } from './shared-support.ts';

ownNetns();

kernelTest('the directions of a flow come by two interfaces, and are one entry', [], async () => {
  await using tap = new Tap();
  const [one, two] = tap.names;
  const up = JSON.parse((await tap.up()).stdout) as UpReport;
  expect(up).toMatchObject({
    interface: one,
    interfaces: [
      { interface: one, ifindex: indexOf(one), mode: 'native' },
      { interface: two, ifindex: indexOf(two), mode: 'native' },
    ],
  });
  expect([attachedTo(one), attachedTo(two)]).toEqual([up.programId, up.programId]);
  // One directory of pins, with a link for each.
  expect(traces().filter((name) => !name.includes('.'))).toEqual([`${netnsInode()}-${indexOf(one)}`]);
  expect(Object.keys(up.pins)).toEqual(expect.arrayContaining(['link', `link-${indexOf(two)}`, 'flows4']));

  expect((await sluice('shunt', 'add', '-i', two, '--flow', FLOW)).code).toBe(0);
  tap.send(one, there(), 1000);
  tap.send(two, back(), 500);
  for (const ifname of tap.names) {
    expect(await tap.rows(ifname)).toMatchObject([
      { ab: { pkts: 1000, ipBytes: 1000 * 128 }, ba: { pkts: 500, ipBytes: 500 * 38 } },
    ]);
    const status = await tap.status(ifname);
    expect(status).toMatchObject({
      interface: one,
      interfaces: [{ interface: one }, { interface: two }],
      seen: { pkts: 1500 },
      shunted: { pkts: 1500, bytes: 1000 * 142 + 500 * 52 },
      tables: { flows4: { entries: 1 } },
    });
  }
  const text = (await sluice('gate', 'status', '-i', two)).stdout;
  expect(text).toContain(`${one} in native mode, ${two} in native mode`);
  // What passes by either one passes by both.
  await sluice('shunt', 'rm', '-i', one, '--flow', FLOW);
  tap.send(one, there(), 2);
  tap.send(two, back(), 3);
  expect(await tap.status(two)).toMatchObject({ passed: { pkts: 5 }, shunted: { pkts: 1500 } });

  const down = await sluice('gate', 'down', '-i', two, '--json');
  expect(JSON.parse(down.stdout)).toEqual({ interface: one, interfaces: [one, two], down: true });
  expect([attachedTo(one), attachedTo(two)]).toEqual([undefined, undefined]);
  expect(traces()).toEqual([]);
});

kernelTest(
  'each direction by either interface and on either CPU: every packet is counted',
  [],
  async (context) => {
    if (possibleCpus() < 2) context.skip('there is one CPU');
    await using tap = new Tap();
    const [one, two] = tap.names;
    expect((await tap.up()).code).toBe(0);
    await sluice('shunt', 'add', '-i', one, '--flow', FLOW);
    for (let round = 0; round < 50; round++) {
      // A direction has its CPU, until it comes by another one.
      tap.send(one, there(), 20, 0);
      tap.send(two, back(), 10, 1);
      tap.send(two, there(), 7, 1);
      tap.send(one, back(), 3, 0);
    }
    expect(await tap.rows(two)).toMatchObject([
      { ab: { pkts: 50 * 27, ipBytes: 50 * 27 * 128 }, ba: { pkts: 50 * 13, ipBytes: 50 * 13 * 38 } },
    ]);
    expect(await tap.status(one)).toMatchObject({
      seen: { pkts: 50 * 40 },
      shunted: { pkts: 50 * 40, bytes: 50 * (27 * 142 + 13 * 52) },
      passed: { pkts: 0 },
    });
  },
);

kernelTest('a program exchanged under the gate is exchanged on all of them', [], async () => {
  await using tap = new Tap();
  const [one, two] = tap.names;
  await tap.up();
  expect((await sluice('shunt', 'add', '-i', two, '--pair', ...HOSTS)).code).toBe(0);
  const { programId } = await tap.status(one);
  expect([attachedTo(one), attachedTo(two)]).toEqual([programId, programId]);
  tap.send(one, there(), 4);
  tap.send(two, back(), 5);
  expect(await tap.status(two)).toMatchObject({ shunted: { pkts: 9 }, passed: { pkts: 0 } });
  expect((await sluice('gate', 'resize', '-i', two, '--max-shunts4', '1000')).code).toBe(0);
  const resized = await tap.status(two);
  expect([attachedTo(one), attachedTo(two)]).toEqual([resized.programId, resized.programId]);
  tap.send(one, there(), 1);
  tap.send(two, back(), 1);
  expect(await tap.status(one)).toMatchObject({ shunted: { pkts: 11 }, passed: { pkts: 0 } });
});

kernelTest('a killed daemon leaves all of them, for the next one', [], async () => {
  await using tap = new Tap();
  const [one, two] = tap.names;
  await tap.up();
  await sluice('shunt', 'add', '-i', one, '--flow', FLOW, '--ttl', '600');
  tap.send(one, there(), 3);
  await tap.kill(two);
  tap.send(two, back(), 4);
  const left = await tap.status(two);
  expect(left).toMatchObject({
    daemon: { alive: false },
    interfaces: [
      { interface: one, mode: 'native' },
      { interface: two, mode: 'native' },
    ],
    shunted: { pkts: 7 },
  });
  expect(await tap.rows(two)).toMatchObject([{ ab: { pkts: 3 }, ba: { pkts: 4 } }]);

  // It is one gate: half of it is not to be had.
  for (const name of tap.names) {
    const half = await tap.up([name]);
    expect([half.code, errorOf(half.stdout)]).toEqual([1, 'INTERFACE_BUSY']);
    expect(half.stderr).toContain(`up -i ${one} -i ${two} --share-tables`);
    const run = await sluice('run', '-i', name, '--tap', '--json', '--log-dir', tap.logDir);
    expect([run.code, errorOf(run.stdout)]).toEqual([1, 'INTERFACE_BUSY']);
  }
  expect([attachedTo(one), attachedTo(two)]).toEqual([left.programId, left.programId]);

  // In another order it is the same gate.
  const again = await tap.up([two, one]);
  expect([again.code, again.stderr]).toEqual([0, expect.stringContaining('took over a gate with 1 shunts')]);
  const { programId, interface: first } = JSON.parse(again.stdout) as UpReport;
  expect(first).toBe(one);
  expect(programId).not.toBe(left.programId);
  expect([attachedTo(one), attachedTo(two)]).toEqual([programId, programId]);
  tap.send(one, there(), 10);
  tap.send(two, back(), 20);
  expect(await tap.rows(one)).toMatchObject([{ ab: { pkts: 13 }, ba: { pkts: 24 } }]);

  await tap.kill(one);
  expect((await sluice('gate', 'down', '-i', two)).code).toBe(0);
  expect([attachedTo(one), attachedTo(two)]).toEqual([undefined, undefined]);
  expect(traces()).toEqual([]);
});

kernelTest('what one interface refuses, leaves nothing on the other', [], async () => {
  await using tap = new Tap();
  const [one, two] = tap.names;
  const refused = async (outcome: Promise<Outcome>): Promise<[number | null, string, string]> => {
    const { code, stdout, stderr } = await outcome;
    expect([attachedTo(one), traces()]).toEqual([undefined, []]);
    return [code, errorOf(stdout), stderr];
  };
  expect(await refused(tap.up([one, 'nosuch0']))).toEqual([
    2,
    'INTERFACE_UNKNOWN',
    expect.stringContaining('nosuch0'),
  ]);
  ip(`addr add 10.9.8.1/24 dev ${two}`);
  expect(await refused(tap.up())).toEqual([2, 'INTERFACE_IN_USE', expect.stringContaining(two)]);
  ip(`addr del 10.9.8.1/24 dev ${two}`);
  {
    using object = loadObject(bpfObject('lab_pass'));
    const [program] = object.programs.values();
    using _link = attachXdp({ program, ifindex: indexOf(two), mode: 'native' });
    expect(await refused(tap.up())).toEqual([
      1,
      'INTERFACE_BUSY',
      expect.stringContaining(`${two} already has an XDP program: ${program.name} (id ${program.id})`),
    ]);
    expect(attachedTo(two)).toBe(program.id);
  }
  expect(await refused(tap.up(tap.names, '--mode', 'offload'))).toEqual([
    3,
    'KERNEL_FEATURE',
    expect.stringContaining('--mode native'),
  ]);
  // Attached to the first when the second cannot do the mode.
  ip('link add nonative type bridge');
  expect(await refused(tap.up([one, 'nonative'], '--mode', 'native'))).toEqual([
    3,
    'KERNEL_FEATURE',
    expect.stringContaining('nonative cannot run the gate in native mode'),
  ]);
  const mixed = await tap.up([one, 'nonative']);
  expect([mixed.code, JSON.parse(mixed.stdout)]).toMatchObject([
    0,
    {
      mode: 'native',
      interfaces: [
        { interface: one, mode: 'native', modeReason: null },
        { interface: 'nonative', mode: 'generic', modeReason: expect.stringContaining('no native XDP') },
      ],
    },
  ]);
  expect((await sluice('gate', 'down', '-i', 'nonative')).code).toBe(0);
  ip('link del nonative');
  expect(await refused(tap.up([one, one]))).toEqual([2, 'USAGE', expect.stringContaining('each once')]);
  const apart = sluice('gate', 'up', '-i', one, '-i', two, '--json', '--log-dir', tap.logDir);
  expect(await refused(apart)).toEqual([2, 'USAGE', expect.stringContaining('--share-tables')]);
});
