import { expect, it } from 'vitest';
import { LIMITS } from '../../src/gate/control-protocol.ts';
import { flowKey, parseFlow } from '../../src/gate/flow-key.ts';
import { Holds } from '../../src/gate/holds.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';

ownNetns();

const A = '10.9.0.1';
const B = '10.9.0.2';
const FLOW = `udp ${A}:5000 ${B}:6000`;
const flow = (port = 5000) => ({ proto: 'udp', a: { addr: A, port }, b: { addr: B, port: 6000 } });
const udp = (sport = 5000) => eth().ipv4({ src: A, dst: B }).udp({ sport, dport: 6000 }).payload('abc');
const name = (port: number) => parseFlow(`udp ${A}:${port} ${B}:6000`, { vlan: 0, innerVlan: 0, vni: 0 });

const key = (port: number): Uint8Array => flowKey(name(port)).bytes;

interface Results {
  results: { released?: boolean; error?: { code: string } }[];
}
const told = ({ results }: Results): unknown[] =>
  results.map(({ released, error }) => error?.code ?? released ?? 'ok');

it('are bounded, one holder cannot take the place of others, and counts are whole', () => {
  const holds = new Holds((slot) => slot === 9);
  const hold = (port: number, holder: string, slot = 0): void =>
    holds.add(name(port), flowKey(name(port)), { slot, name: holder }, 60, undefined);
  for (let port = 0; port < LIMITS.holdsPerHolder; port++) hold(port, 'greedy');
  expect(() => hold(5000, 'greedy')).toThrow('holds 4096 flows already');
  hold(5000, 'other');
  hold(1, 'other');
  // The lease of this one is over.
  hold(5001, 'dead', 9);
  expect([1, 5000, 5001, 5002].map((port) => holds.covers(key(port)))).toEqual([true, true, false, false]);
  expect(holds.remove(key(1), 'greedy')).toBeDefined();
  expect(holds.covers(key(1))).toBe(true);
  holds.keep(key(5000), 3);
  holds.keep(key(5001));
  expect(holds.kept).toBe(3);
  expect(holds.expire().map(({ hold: { holder }, reason }) => [holder.name, reason])).toEqual([
    ['dead', 'lease'],
  ]);
  expect(holds.size).toBe(LIMITS.holdsPerHolder + 1);
});

kernelTest('a held flow is not shunted until it is let go of, and that is counted', [], async () => {
  await using gate = await UpGate.up();
  using client = await gate.connect();
  await gate.shunt('add', '--flow', FLOW);
  gate.send(udp(), 3);
  // It is shunted: the hold ends that, and says so.
  expect(told(await client.ask<Results>('hold.add', { flows: [flow(), flow(1)], why: 'case 17' }))).toEqual([
    true,
    false,
  ]);
  gate.send(udp(), 2);
  expect(await gate.status()).toMatchObject({
    shunted: { pkts: 3 },
    passed: { pkts: 2 },
    holds: { live: 2, kept: 0, released: 1 },
  });
  expect(told(await client.ask<Results>('add', { flows: [flow(), flow(1), flow(2)] }))).toEqual([
    'HELD',
    'HELD',
    'ok',
  ]);
  await expect(client.ask('pair.add', { a: A, b: '10.9.0.0/24' })).rejects.toMatchObject({ code: 'HELD' });
  const rows: { a: { port: number }; kept: number; holder: string; why: string }[] = [];
  await client.ask('hold.list', {}, (page) => rows.push(...(page as typeof rows)));
  expect(
    rows
      .map(({ a, kept, holder, why }) => [a.port, kept, holder, why])
      .toSorted(([x], [y]) => Number(x) - Number(y)),
  ).toEqual([
    [1, 1, 'user 0', 'case 17'],
    [5000, 2, 'user 0', 'case 17'],
  ]);
  expect(told(await client.ask<Results>('hold.remove', { flows: [flow(), flow(3)] }))).toEqual([
    'ok',
    'NOT_FOUND',
  ]);
  expect(told(await client.ask<Results>('add', { flows: [flow()] }))).toEqual(['ok']);
  expect(await gate.status()).toMatchObject({ holds: { live: 1, kept: 3, released: 1 } });
  const ops = gate.audit().map(({ op, refused, reason }) => [op, refused ?? reason ?? '']);
  expect(ops).toContainEqual(['hold.add', '']);
  expect(ops).toContainEqual(['end', 'hold']);
  expect(ops).toContainEqual(['add', 'HELD']);
  expect(ops).toContainEqual(['hold.remove', 'NOT_FOUND']);
});

kernelTest(
  'a hold ends an address pair over its flow, and is over with its time or its owner',
  [],
  async () => {
    await using gate = await UpGate.up();
    using client = await gate.connect();
    await client.ask('pair.add', { a: A, b: B });
    await client.ask('pair.add', { a: '10.9.0.0/24', b: '10.9.0.0/24' });
    await client.ask('pair.add', { a: A, b: '10.9.0.77' });
    gate.send(udp(), 4);
    await client.ask('owner.register', { name: 'short', lease: 4 });
    expect(told(await client.ask<Results>('hold.add', { owner: 'short', flows: [flow()] }))).toEqual([true]);
    const { pairs } = await client.ask<{ pairs: { b: string }[] }>('pair.list');
    expect(pairs).toHaveLength(1);
    gate.send(udp(), 2);
    expect(await gate.status()).toMatchObject({ shunted: { pkts: 4 }, passed: { pkts: 2 } });
    // Nobody renews the lease: the flow may be shunted again.
    await eventually(async () => {
      const { holds } = await gate.status();
      return holds?.live === 0 ? true : undefined;
    }, 'the hold of an owner that is gone stays');
    expect(gate.audit().find(({ op }) => op === 'hold.end')).toMatchObject({ reason: 'lease' });
    await client.ask('hold.add', { flows: [{ ...flow(), ttl: 3 }] });
    expect(told(await client.ask<Results>('add', { flows: [flow()] }))).toEqual(['HELD']);
    await eventually(
      async () =>
        told(await client.ask<Results>('add', { flows: [flow()] }))[0] === 'ok' ? true : undefined,
      'the hold outlives its time',
    );
  },
);
