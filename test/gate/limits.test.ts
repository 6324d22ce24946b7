import { expect } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';

ownNetns();

/** Seconds; more than passes here between two steps. */
const IDLE = 4;
const flow = (port: number, idle?: number | 'off') => ({
  proto: 'udp',
  a: { addr: '10.9.0.1', port },
  b: { addr: '10.9.0.2', port: 6000 },
  ...(idle === undefined ? {} : { idle }),
});
const packet = (port: number) =>
  eth().ipv4({ src: '10.9.0.1', dst: '10.9.0.2' }).udp({ sport: port, dport: 6000 }).payload('abc');

interface Results {
  results: { error?: { code: string } }[];
}
const codeOf = (error: unknown): string => (error as { code: string }).code;
const codes = ({ results }: Results): string[] => results.map(({ error }) => error?.code ?? 'ok');

kernelTest('lease and idle limit, by owner and by entry: one may be off, never both', [], async () => {
  await using gate = await UpGate.up();
  using client = await gate.connect();
  await client.ask('owner.register', { name: 'leased', lease: 600, idle: 'off' });
  await client.ask('owner.register', { name: 'unleased', lease: 'off', idle: 600 });
  const leased = await client.ask<Results>('add', { owner: 'leased', flows: [flow(1), flow(2, IDLE)] });
  expect(codes(leased)).toEqual(['ok', 'ok']);
  const unleased = await client.ask<Results>('add', {
    owner: 'unleased',
    flows: [flow(3), flow(4, 'off'), flow(5, IDLE)],
  });
  expect(codes(unleased)).toEqual(['ok', 'REFUSED', 'ok']);
  // By hand there is the time limit besides.
  expect(codes(await client.ask<Results>('add', { flows: [{ ...flow(6, IDLE), ttl: 600 }] }))).toEqual([
    'ok',
  ]);
  for (const port of [1, 2, 3, 5, 6]) gate.send(packet(port));
  expect(await gate.status()).toMatchObject({ shunted: { pkts: 5 } });

  // What was added while there was a lease would be held for ever without one.
  await expect(
    client.ask('owner.register', { name: 'leased', lease: 'off', idle: 60 }).catch(codeOf),
  ).resolves.toBe('REFUSED');

  // Those that have one lapse by their own idle limit, with the reason.
  const ends = await eventually(async () => {
    const lines = gate.audit().filter(({ op }) => op === 'end');
    return lines.length >= 3 ? lines : undefined;
  }, 'entries stay');
  expect(
    ends.map(({ key, reason }) => `${String(key)} ${String(reason)}`).toSorted((x, y) => x.localeCompare(y)),
  ).toEqual([2, 5, 6].map((port) => `udp 10.9.0.1:${port} 10.9.0.2:6000 idle`));
  for (const port of [1, 3]) gate.send(packet(port));
  expect(await gate.status()).toMatchObject({ shunted: { pkts: 7 }, passed: { pkts: 0 } });
  await client.ask('remove', { flows: [flow(1)].map(({ proto, a, b }) => ({ proto, a, b })) });
  expect(await client.ask('owner.register', { name: 'leased', lease: 'off', idle: 60 })).toMatchObject({
    entries: 0,
  });
});
