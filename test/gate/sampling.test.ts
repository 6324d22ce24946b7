import { expect } from 'vitest';
import type { GateSample, GateSampler } from '../../src/gate/sampling.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns, PATIENCE } from '../support/kernel.ts';
import { handRule } from './hand-rule.ts';
import { gateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';

ownNetns();

const A = { addr: '10.0.0.1', port: 1000 };
const B = { addr: '10.0.0.2', port: 443 };
const AB = { src: A.addr, dst: B.addr };
const LO = 1;

const packet = (payload: number) => eth().ipv4(AB).udp({ sport: 5, dport: 5353 }).payload(payload);
const shunted = eth().ipv4(AB).tcp({ sport: A.port, dport: B.port, seq: 1, ack: 1, flags: 'A', window: 9 });
const flood = eth().ipv4(AB).udp({ sport: 5, dport: 53 }).payload(200);

/** What a sample says, with its bytes as the reader's own. */
interface Kept extends Omit<GateSample, 'memory' | 'offset'> {
  bytes: Buffer;
}

function sampled(
  gate: TestGate,
  options: Partial<Parameters<TestGate['gate']['sample']>[0]>,
): { sampler: GateSampler; kept: Kept[] } {
  const kept: Kept[] = [];
  const sampler = gate.gate.sample({ every: 1, size: 128, ...options }, ({ memory, offset, ...sample }) =>
    kept.push({ ...sample, bytes: Buffer.from(memory.slice(offset, offset + sample.captured)) }),
  );
  return { sampler, kept };
}

kernelTest('samples have verdict, rule, interface and the lengths', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
  using rule = handRule(gate);
  gate.gate.setRules(rule.program('test_rule'));
  const { sampler, kept } = sampled(gate, {});
  const before = Date.now() / 1000;
  for (const [frame, action] of [
    [packet(20).bytes(), XDP_PASS],
    [packet(1200).bytes(), XDP_PASS],
    [shunted.bytes(), XDP_DROP],
    [flood.bytes(), XDP_DROP],
    [eth({ type: 0x0806 }).payload(46).bytes(), XDP_PASS],
  ] as const)
    expect(gate.run(frame).action).toBe(action);
  sampler.poll();
  expect(
    kept.map(({ verdict, length, captured, every, ifindex }) => [verdict, length, captured, every, ifindex]),
  ).toEqual([
    ['passNoEntry', 62, 62, 1, LO],
    ['passNoEntry', 1242, 128, 1, LO],
    ['shunted', 54, 54, 1, LO],
    ['ruleDropped', 242, 128, 1, LO],
    ['passNotIp', 60, 60, 1, LO],
  ]);
  expect(kept.map(({ rule: number }) => number !== undefined)).toEqual([false, false, false, true, false]);
  expect(kept[1].bytes).toEqual(Buffer.from(packet(1200).bytes().subarray(0, 128)));
  for (const { ts } of kept) expect(Math.abs(ts - before)).toBeLessThan(60);
  expect(sampler.counts()).toEqual({
    taken: 5,
    lost: 0,
    over: 0,
    takenBytes: 62 + 1242 + 54 + 242 + 60,
    missedBytes: 0,
  });
  sampler.close();
  expect(gate.gate.features.samples).toBe(false);
  expect(gate.run(packet(20)).action).toBe(XDP_PASS);
});

kernelTest('from 64 bytes to the whole packet', ['xdpFrags'], () => {
  using gate = new TestGate();
  for (const size of [64, 127, 2048]) {
    const { sampler, kept } = sampled(gate, { size });
    for (const payload of [22, 23, 86, 1400, 1472]) gate.run(packet(payload));
    sampler.poll();
    expect(kept.map(({ bytes }) => bytes)).toEqual(
      [22, 23, 86, 1400, 1472].map((payload) => Buffer.from(packet(payload).bytes().subarray(0, size))),
    );
    sampler.close();
  }
});

kernelTest('one in so many, set while it runs', ['xdpFrags'], () => {
  using gate = new TestGate();
  const { sampler, kept } = sampled(gate, { every: 400 });
  const frame = packet(20).bytes();
  const send = (count: number): void => {
    for (let sent = 0; sent < count; sent += 1000) gate.gate.program.testRun({ data: frame, repeat: 1000 });
  };
  const taken = (): number => {
    sampler.poll();
    return kept.splice(0).length;
  };
  const weighted = (count: number, every: number): void => {
    send(count);
    // Five standard deviations of the gaps' sum, which are even up to twice the mean.
    const got = taken();
    const off = 5 * Math.sqrt(count / every / 3) + 2;
    expect(Math.abs(got - count / every), `${got} of ${count} at ${every}`).toBeLessThan(off);
  };
  weighted(40_000, 400);
  sampler.setEvery(LO, 10);
  weighted(5000, 10);
  sampler.setEvery(LO, 0);
  send(5000);
  expect(taken()).toBe(0);
  sampler.setEvery(LO, 50);
  weighted(10_000, 50);
});

kernelTest('a ring that is full loses samples, counts them, and no packet', ['xdpFrags'], () => {
  using gate = new TestGate();
  const { sampler, kept } = sampled(gate, { ringBytes: 4096 });
  const before = gate.gate.ledger().passed.pkts;
  gate.gate.program.testRun({ data: packet(200).bytes(), repeat: 500 });
  expect(gate.gate.ledger().passed.pkts - before).toBe(500);
  const { taken, lost, over } = sampler.counts();
  expect([taken + lost, over]).toEqual([500, 0]);
  expect(lost).toBeGreaterThan(400);
  sampler.poll();
  expect(kept).toHaveLength(taken);
  // Those that are there stand for the others as well.
  expect(kept.reduce((sum, { every }) => sum + every, 0)).toBeCloseTo(500, 6);
});

kernelTest('a budget holds at once, and the rate follows', ['xdpFrags'], async () => {
  using gate = new TestGate();
  const { sampler } = sampled(gate, { budget: 1000 });
  const frame = packet(20).bytes();
  await expect
    .poll(
      () => {
        gate.gate.program.testRun({ data: frame, repeat: 20_000 });
        sampler.poll();
        return sampler.every(LO);
      },
      { timeout: PATIENCE * 1000, interval: 20 },
    )
    .toBeGreaterThan(10);
  const { taken, over } = sampler.counts();
  expect(over).toBeGreaterThan(taken);
  sampler.close();
});

kernelTest('one at a time', ['xdpFrags'], () => {
  using gate = new TestGate();
  const { sampler } = sampled(gate, {});
  expect(() => sampled(gate, {})).toThrowError(expect.objectContaining({ code: 'EXISTS' }));
  sampler.close();
  sampled(gate, {}).sampler.close();
});
