import { expect } from 'vitest';
import type { PairRow } from '../../src/gate/control-protocol.ts';
import { eth } from '../../src/packet/build.ts';
import { ip, kernelTest, ownNetns } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';

ownNetns();

const A = '10.9.0.1';
const B = '10.9.0.2';
const between = (src: string, dst: string) =>
  eth().ipv4({ src, dst }).icmp({ type: 3, code: 1 }).payload('x'.repeat(20));
const codeOf = (text: string): string => (JSON.parse(text) as { error: { code: string } }).error.code;

async function pairs(gate: UpGate): Promise<PairRow[]> {
  const { stdout } = await gate.shunt('ls', '--pairs');
  return JSON.parse(stdout) as PairRow[];
}

kernelTest(
  'everything between two addresses, from the first pair on and until its time is over',
  [],
  async () => {
    await using gate = await UpGate.up();
    const { programId } = await gate.status();
    gate.send(between(A, B), 2);
    expect((await gate.shunt('add', '--pair', B, A, '--ttl', '8')).code).toBe(0);
    // The program that looks for pairs has taken over from the one that does not.
    expect((await gate.status()).programId).not.toBe(programId);
    gate.send(between(A, B), 3);
    gate.send(between(B, A), 1);
    gate.send(between(A, '10.9.0.3'), 5);
    const [pair] = await pairs(gate);
    expect(pair).toMatchObject({ a: A, b: B, owner: '', ab: { pkts: 3, ipBytes: 144 }, ba: { pkts: 1 } });
    expect(await gate.status()).toMatchObject({ shunted: { pkts: 4 }, passed: { pkts: 7 } });
    const again = await gate.shunt('add', '--pair', A, B);
    expect([again.code, codeOf(again.stdout)]).toEqual([1, 'EXISTS']);
    const end = await eventually(
      async () => gate.audit().find(({ op }) => op === 'pair.end'),
      'it did not end',
    );
    expect(end).toMatchObject({ reason: 'limit', pkts: 4 });
    gate.send(between(A, B), 1);
    expect(await gate.status()).toMatchObject({ shunted: { pkts: 4 }, passed: { pkts: 8 } });
    expect(await pairs(gate)).toEqual([]);
  },
);

kernelTest('prefixes, and exceptions that win over everything', [], async () => {
  await using gate = await UpGate.up();
  ip(`addr add 10.9.7.1/24 dev ${gate.peer}`);
  await gate.shunt('add', '--pair', '10.9.0.0/16', '10.8.0.0/16');
  await gate.shunt('add', '--flow', `udp ${A}:5000 ${B}:6000`);
  await gate.shunt('add', '--pair', A, B);
  gate.send(between('10.9.3.3', '10.8.1.1'), 3);
  // An address of this host, which the prefix covers.
  gate.send(between('10.9.7.1', '10.8.1.1'), 2);
  expect(await gate.status()).toMatchObject({ shunted: { pkts: 3 }, passed: { pkts: 2 } });

  const { stdout } = await gate.exception('add', '10.9.0.0/22', '--why', 'servers');
  expect(JSON.parse(stdout)).toEqual({ prefix: '10.9.0.0/22', ended: 2 });
  gate.send(between('10.9.3.3', '10.8.1.1'), 3);
  gate.send(between('10.9.4.1', '10.8.1.1'), 1);
  gate.send(between(A, B), 1);
  expect(await gate.status()).toMatchObject({ shunted: { pkts: 4 }, passed: { pkts: 6 } });
  for (const what of [
    ['--flow', `udp ${A}:5000 ${B}:6000`],
    ['--pair', A, '10.8.0.1'],
    ['--pair', '10.9.7.1', B],
  ]) {
    const refused = await gate.shunt('add', ...what);
    expect([refused.code, codeOf(refused.stdout)]).toEqual([1, 'REFUSED']);
  }
  expect(JSON.parse((await gate.exception('ls')).stdout)).toEqual(
    expect.arrayContaining(['10.9.0.0/22', '10.9.7.1/32']),
  );
  expect((await gate.exception('rm', '10.9.0.0/22')).code).toBe(0);
  expect((await gate.shunt('add', '--flow', `udp ${A}:5000 ${B}:6000`)).code).toBe(0);
  expect((await gate.shunt('rm', '--pair', '10.8.0.0/16', '10.9.0.0/16')).code).toBe(0);
  expect(await pairs(gate)).toEqual([]);
});

kernelTest('a shunt ends when this host gets one of its addresses', [], async () => {
  await using gate = await UpGate.up();
  await gate.shunt('add', '--flow', `udp ${A}:5000 ${B}:6000`);
  await gate.shunt('add', '--pair', A, '10.8.0.1');
  ip(`addr add ${A}/24 dev ${gate.peer}`);
  const ends = await eventually(async () => {
    const found = gate.audit().filter(({ op }) => op === 'end' || op === 'pair.end');
    return found.length === 2 ? found : undefined;
  }, 'they go on');
  expect(ends.map(({ reason }) => reason)).toEqual(['exception', 'exception']);
});

kernelTest('pairs go on under the next daemon', [], async () => {
  await using gate = await UpGate.up();
  await gate.shunt('add', '--pair', A, B, '--ttl', '600');
  await gate.shunt('add', '--pair', '10.9.0.0/16', '10.8.0.0/16', '--ttl', '600');
  using client = await gate.connect();
  process.kill((await gate.status()).daemon.pid as number, 'SIGKILL');
  await client.closed;
  gate.send(between(A, B), 2);
  expect((await gate.start()).code).toBe(0);
  gate.send(between(A, B), 2);
  gate.send(between('10.9.1.1', '10.8.0.1'), 3);
  expect((await pairs(gate)).map(({ ab, ba }) => ab.pkts + ba.pkts)).toEqual([4, 3]);
});
