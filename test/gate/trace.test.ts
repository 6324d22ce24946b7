import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { filterOf } from '../../src/cli/commands/gate-slots.ts';
import type { TraceRow } from '../../src/gate/trace.ts';
import { packageRoot } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { UpGate } from './daemon-support.ts';
import { gateKey, TestGate } from './support.ts';

ownNetns();

const A = { addr: '10.0.0.1', port: 1000 };
const B = { addr: '10.0.0.2', port: 443 };
const AB = { src: A.addr, dst: B.addr };
const tcp = (flags = 'A', sport = A.port) =>
  eth().ipv4(AB).tcp({ sport, dport: B.port, seq: 7, ack: 9, flags, window: 100 }).payload('12345');

kernelTest('each decision on a matching packet, with its reason', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
  const run = (packet: Parameters<TestGate['run']>[0]) => gate.run(packet).verdict;
  run(tcp());
  const trace = gate.gate.trace({ proto: 6, a: B.addr, portA: B.port, b: A.addr, portB: A.port });
  const before = Date.now() / 1000;
  run(tcp());
  run(tcp('A', 1001));
  run(
    eth()
      .vlan(5)
      .ipv4({ src: B.addr, dst: A.addr })
      .tcp({ sport: B.port, dport: A.port, seq: 1, ack: 12, flags: 'FA', window: 1 }),
  );
  run(tcp());
  run(
    eth()
      .ipv4({ ...AB, protocol: 6, id: 5, fragment: { offset: 8, more: true } })
      .payload('12345678'),
  );
  run(eth().ipv4(AB).udp({ sport: A.port, dport: B.port }));
  run(
    eth()
      .ipv4({ ...AB, dst: '10.0.0.3' })
      .tcp({ sport: A.port, dport: B.port, seq: 1, ack: 1, flags: 'A', window: 1 }),
  );
  const { rows, lost } = trace.read();
  expect(lost).toBe(0);
  expect(rows.map(({ verdict, action }) => [verdict, action])).toEqual([
    ['shunted', 'drop'],
    ['passClose', 'pass'],
    ['passEnding', 'pass'],
    ['passFragment', 'pass'],
  ]);
  expect(rows[0]).toMatchObject({
    reason: 'an entry of its flow',
    length: 59,
    vlan: 0,
    proto: 'tcp',
    src: A,
    dst: B,
    fragment: null,
    tcp: { flags: 'A', seq: 7, ack: 9, window: 100 },
    payload: 5,
    rule: null,
  });
  expect(rows[0].ts).toBeGreaterThan(before - 5);
  expect(rows[0].ts).toBeLessThan(before + 60);
  expect(rows[1]).toMatchObject({ vlan: 5, src: B, dst: A, tcp: { flags: 'FA' } });
  expect(rows[3]).toMatchObject({
    fragment: 'later',
    src: { addr: A.addr, port: null },
    tcp: null,
    payload: null,
  });
  trace.close();
  run(tcp());
  const again = gate.gate.trace({});
  expect(again.read().rows).toEqual([]);
  run(Uint8Array.from([...new Uint8Array(12), 8, 6, ...new Uint8Array(46)]));
  expect(again.read().rows).toMatchObject([{ verdict: 'passNotIp', src: null, proto: '' }]);
  again.close();
});

kernelTest('IPv6, and a host on either side', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  const trace = gate.gate.trace({ a: '2001:db8::2' });
  gate.run(eth().ipv6({ src: '2001:db8::1', dst: '2001:db8::2' }).udp({ sport: 5, dport: 6 }));
  gate.run(eth().ipv6({ src: '2001:db8::2', dst: '2001:db8::1' }).udp({ sport: 6, dport: 5 }));
  gate.run(eth().ipv6({ src: '2001:db8::1', dst: '2001:db8::3' }).udp({ sport: 5, dport: 6 }));
  expect(trace.read().rows.map(({ src, dst, verdict }) => [src, dst, verdict])).toEqual([
    [{ addr: '2001:db8::1', port: 5 }, { addr: '2001:db8::2', port: 6 }, 'passNoEntry'],
    [{ addr: '2001:db8::2', port: 6 }, { addr: '2001:db8::1', port: 5 }, 'passNoEntry'],
  ]);
  trace.close();
});

kernelTest('what does not fit is lost, and counted', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  const trace = gate.gate.trace({ a: A.addr });
  const sent = 5000;
  gate.gate.program.testRun({ data: tcp().bytes(), repeat: sent });
  const { rows, lost } = trace.read();
  expect(rows.length).toBeGreaterThan(1000);
  expect(lost).toBeGreaterThan(0);
  expect(rows.length + lost).toBe(sent);
  expect(gate.gate.ledger().passed.pkts).toBe(sent);
  trace.close();
});

kernelTest('off, the program is the one that it was before', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  const size = (): number => gate.gate.program.info().xlatedBytes;
  const before = size();
  const trace = gate.gate.trace({});
  expect(size()).toBeGreaterThan(before);
  trace.close();
  expect(size()).toBe(before);
});

test('flows to trace', () => {
  expect(filterOf({ flow: 'tcp 10.0.0.1:443 [2001:db8::1]:5' })).toEqual({
    proto: 'tcp',
    a: { addr: '10.0.0.1', port: 443 },
    b: { addr: '2001:db8::1', port: 5 },
  });
  expect(filterOf({ flow: 'any 10.0.0.1 2001:db8::1' })).toEqual({
    a: { addr: '10.0.0.1' },
    b: { addr: '2001:db8::1' },
  });
  expect(filterOf({ host: '10.0.0.1' })).toEqual({ a: { addr: '10.0.0.1' } });
  expect(filterOf({})).toEqual({});
  for (const flow of [
    'tcp',
    'tcp 10.0.0.1',
    'tcp 10.0.0.1:70000 10.0.0.2',
    'tcp a b',
    'tcp 10.0.0.1 10.0.0.2 x',
  ])
    expect(() => filterOf({ flow }), flow).toThrow(expect.objectContaining({ code: 'USAGE' }));
  expect(() => filterOf({ flow: 'tcp 10.0.0.1 10.0.0.2', host: '10.0.0.1' })).toThrow();
});

kernelTest('sluice gate trace --json, and the slots in gate status', [], async () => {
  await using gate = await UpGate.up();
  const child = spawn(
    process.execPath,
    [
      join(packageRoot(), 'bin', 'sluice.js'),
      'gate',
      'trace',
      '-i',
      gate.ifname,
      '--host',
      A.addr,
      '--json',
      '--count',
      '3',
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const closed = once(child, 'close') as Promise<[number]>;
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  await once(child.stderr, 'data');
  const packet = eth().ipv4(AB).udp({ sport: 5, dport: 6 });
  expect((await gate.status()).features).toMatchObject({ trace: true, fragments: false });
  const { stdout } = await sluice('gate', 'status', '-i', gate.ifname);
  expect(stdout).toMatch(/^options +a trace$/m);
  gate.send(packet, 4);
  const [code] = await closed;
  expect(code).toBe(0);
  const rows = out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as TraceRow);
  expect(rows).toHaveLength(3);
  expect(rows[0]).toMatchObject({ verdict: 'passNoEntry', src: { addr: A.addr, port: 5 } });
  const after = await gate.status();
  expect(after.slots).toEqual({ rules: null, next: null, hook: [] });
  expect(after.features).toMatchObject({ trace: false });
});
