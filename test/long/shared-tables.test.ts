import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { findPlace } from '../../src/gate/control-places.ts';
import type { UpReport } from '../../src/gate/daemon-options.ts';
import { attachXdp, loadObject } from '../../src/kernel/index.ts';
import { shown } from '../gate/cap-support.ts';
import { eventually } from '../gate/daemon-support.ts';
import { attachedTo, back, errorOf, FLOW, indexOf, Tap, there, traces } from '../gate/shared-support.ts';
import { sluice } from '../support/command.ts';
import { bpfObject, kernelTest, ownNetns, until } from '../support/kernel.ts';

ownNetns();

interface Counted {
  ab: { pkts: number };
  ba?: { pkts: number };
}

const sumOf = (rows: readonly Counted[]): number =>
  rows.reduce((sum, { ab, ba }) => sum + ab.pkts + (ba?.pkts ?? 0), 0);

/** What is shunted, once so much was counted: what was sent may still wait for the kernel. */
async function untilRows(tap: Tap, ifname: string, wanted: readonly Counted[]): Promise<void> {
  const rows = await eventually(async () => {
    const now = await tap.rows(ifname);
    return sumOf(now) >= sumOf(wanted) ? now : undefined;
  }, 'not all that was sent is counted');
  expect(rows).toMatchObject(wanted);
}

kernelTest('a gate on one interface goes on, on two', [], async () => {
  await using tap = new Tap();
  const [one, two] = tap.names;
  await tap.up([one]);
  await sluice('shunt', 'add', '-i', one, '--flow', FLOW, '--ttl', '600');
  tap.send(one, there(), 3);
  await tap.kill(one);
  expect((await tap.up()).code).toBe(0);
  tap.send(two, back(), 2);
  await untilRows(tap, two, [{ ab: { pkts: 3 }, ba: { pkts: 2 } }]);
});

kernelTest('an interface that another gate holds is named, and that gate goes on', [], async () => {
  await using tap = new Tap();
  const [one, two] = tap.names;
  const alone = await sluice('gate', 'up', '-i', two, '--json', '--log-dir', tap.logDir);
  const { programId } = JSON.parse(alone.stdout) as UpReport;
  const busy = await tap.up();
  expect([busy.code, errorOf(busy.stdout), busy.stderr]).toEqual([
    1,
    'INTERFACE_BUSY',
    expect.stringContaining(`another Sluice holds ${two}`),
  ]);
  expect([attachedTo(one), attachedTo(two)]).toEqual([undefined, programId]);
  expect((await tap.status(two)).daemon.alive).toBe(true);
  // Dead, it is taken over: but not two at once.
  await tap.kill(two);
  const other = await sluice('gate', 'up', '-i', one, '--json', '--log-dir', tap.logDir);
  await tap.kill(one);
  const dead = await tap.up();
  expect([dead.code, errorOf(dead.stdout)]).toEqual([1, 'INTERFACE_BUSY']);
  expect(dead.stderr).toContain(`gate down -i ${two}`);
  expect(attachedTo(one)).toBe((JSON.parse(other.stdout) as UpReport).programId);
  expect(attachedTo(two)).toBe(programId);
  expect((await sluice('gate', 'down', '-i', one)).code).toBe(0);
  expect((await tap.up()).code).toBe(0);
  expect(await tap.status(one)).toMatchObject({
    // It keeps its place: the first one is the one it had.
    interfaces: [{ interface: two }, { interface: one }],
    daemon: { alive: true },
  });
});

kernelTest(
  'a foreign program on one does not end the gate on the other, which is taken over',
  [],
  async () => {
    await using tap = new Tap();
    const [one, two] = tap.names;
    await tap.up([one]);
    await sluice('shunt', 'add', '-i', one, '--flow', FLOW, '--ttl', '600');
    const { programId } = await tap.status(one);
    await tap.kill(one);
    using object = loadObject(bpfObject('lab_pass'));
    const [program] = object.programs.values();
    using _link = attachXdp({ program, ifindex: indexOf(two), mode: 'native' });
    expect((await tap.up()).code).toBe(1);
    expect([attachedTo(one), attachedTo(two)]).toEqual([programId, program.id]);
    tap.send(one, there(), 2);
    await untilRows(tap, one, [{ ab: { pkts: 2 } }]);
  },
);

kernelTest('of two that start at once, in whatever order, one has both', [], async () => {
  await using tap = new Tap();
  const [one, two] = tap.names;
  const both = await Promise.all([tap.up([one, two]), tap.up([two, one])]);
  expect(both.map(({ code }) => code).toSorted((x, y) => Number(x) - Number(y))).toEqual([0, 1]);
  expect((await tap.status(two)).interfaces).toHaveLength(2);
});

kernelTest('an interface goes, and the gate stays on the other', [], async () => {
  await using tap = new Tap();
  const [one, two] = tap.names;
  const first = indexOf(one);
  await tap.up();
  await sluice('shunt', 'add', '-i', two, '--flow', FLOW, '--ttl', '600');
  tap.send(one, there(), 5);
  // The first one: whose name the pins bear.
  tap.remove(tap.one);
  const status = await eventually(async () => {
    const now = await tap.status(two);
    return now.interfaces.length === 1 ? now : undefined;
  }, 'the interface is still among them');
  expect(status).toMatchObject({ interface: two, interfaces: [{ interface: two }], daemon: { alive: true } });
  expect(findPlace(two).ifindex).toBe(first);
  tap.send(two, back(), 6);
  await untilRows(tap, two, [{ ab: { pkts: 5 }, ba: { pkts: 6 } }]);
  // A program is exchanged on those that are left.
  expect((await sluice('shunt', 'add', '-i', two, '--pair', '10.9.1.1', '10.9.1.2')).code).toBe(0);
  const gone = (): string[] => tap.log('gate.log').match(/has gone; the gate stays on/g) ?? [];
  await until(() => gone().length > 0, 'nobody says that the interface has gone');
  const line = `"op":"interface.gone","key":"${one}"`;
  await until(
    () => tap.log('audit.log').includes(line),
    'it is not in audit.log that the interface has gone',
  );
  // Told once, however often it is looked after.
  await new Promise((resolve) => setTimeout(resolve, 2500));
  expect(gone()).toHaveLength(1);

  // And so it is found by the next daemon, too.
  await tap.kill(two);
  const again = await tap.up([two]);
  expect([again.code, again.stderr]).toEqual([0, expect.stringContaining('took over a gate with 1 shunts')]);
  tap.send(two, back(), 1);
  await untilRows(tap, two, [{ ab: { pkts: 5 }, ba: { pkts: 7 } }]);
  const { daemon } = await tap.status(two);
  tap.remove(tap.two);
  await until(() => !existsSync(`/proc/${daemon.pid}`), 'the daemon is still there');
  expect(traces()).toEqual([]);
});

kernelTest('a capture by either name is one of what comes by both', [], async () => {
  await using tap = new Tap();
  const [one, two] = tap.names;
  await tap.up();
  for (const [n, target] of [two, `${one},${two}`].entries()) {
    const file = join(tap.logDir, `${n}.pcapng`);
    let ended = false;
    const capture = sluice('cap', target, '-w', file, '--count', '40', '--json').finally(
      () => (ended = true),
    );
    await until(() => {
      tap.send(one, there(), 1);
      tap.send(two, back(), 1);
      return ended;
    }, 'not all has been captured');
    const { code, stdout } = await capture;
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { packets: 40 }]);
    expect(new Set(shown(file).map(({ length }) => length))).toEqual(new Set([142, 52]));
  }
});
