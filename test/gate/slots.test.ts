import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect } from 'vitest';
import { RulesSlot } from '../../src/gate/layout.ts';
import type { Ledger } from '../../src/gate/ledger.ts';
import { occupy } from '../../src/gate/slots.ts';
import {
  type BpfProgram,
  ensureBpffs,
  loadInstructions,
  ProgramFlag,
  ProgramType,
} from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';
import type { HammerSetup } from './hammer-worker.ts';
import { handRule } from './hand-rule.ts';
import { gateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';

ownNetns();

const A = { addr: '10.0.0.1', port: 1000 };
const B = { addr: '10.0.0.2', port: 443 };
const AB = { src: A.addr, dst: B.addr };
const XDP_TX = 3;
const flood = eth().ipv4(AB).udp({ sport: 5, dport: 53 }).payload('x'.repeat(100));
const limited = eth().ipv4(AB).udp({ sport: 5, dport: 123 });
const shunted = eth().ipv4(AB).tcp({ sport: A.port, dport: B.port, seq: 1, ack: 1, flags: 'A', window: 9 });

/** An XDP program that returns a number. */
function returning(value: number, flags: number = ProgramFlag.xdpHasFrags): BpfProgram {
  const code = Uint8Array.of(0xb7, 0, 0, 0, value, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
  return loadInstructions(code, { type: ProgramType.xdp, name: 'foreign', flags });
}

const counts = ({ reasons, ...others }: Ledger) => ({ ...others, ...reasons });

/** What changed, by name, in packets and bytes. */
function since(gate: TestGate, before: Ledger): Record<string, [number, number]> {
  const was: Record<string, { pkts: number; bytes: number }> = counts(before);
  return Object.fromEntries(
    Object.entries(counts(gate.gate.ledger()))
      .map(([name, now]): [string, [number, number]] => [
        name,
        [now.pkts - (was[name]?.pkts ?? 0), now.bytes - (was[name]?.bytes ?? 0)],
      ])
      .filter(([, [pkts]]) => pkts > 0),
  );
}

/** One packet, counted under these names. */
const one = (bytes: number, ...names: string[]) =>
  Object.fromEntries(['seen', ...names].map((name) => [name, [1, bytes]]));

kernelTest('a rule drops, limits, and lets pass to shunting', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
  using rule = handRule(gate);
  gate.gate.setRules(rule.program('test_rule'));
  expect(gate.gate.slots().rules?.name).toBe('test_rule');
  const run = (packet: Uint8Array): [number, Record<string, [number, number]>] => {
    const before = gate.gate.ledger();
    return [gate.gate.program.testRun({ data: packet }).retval, since(gate, before)];
  };
  expect(run(flood.bytes())).toEqual([XDP_DROP, one(142, 'ruleDropped')]);
  expect(run(limited.bytes())).toEqual([XDP_DROP, one(42, 'rateLimited')]);
  expect(run(shunted.bytes())).toEqual([XDP_DROP, one(54, 'shunted')]);
  expect(gate.read(gateKey(6, A, B))?.pkts).toBe(1);
  // The source is not the listed one.
  const other = eth().ipv4({ src: B.addr, dst: A.addr }).udp({ sport: 5, dport: 53 });
  expect(run(other.bytes())).toEqual([XDP_PASS, one(42, 'passed', 'passNoEntry')]);
  const tagged = eth().vlan(7).ipv4(AB).udp({ sport: 5, dport: 53 });
  expect(run(tagged.bytes())).toEqual([XDP_DROP, one(46, 'ruleDropped')]);
  gate.gate.setRules(undefined);
  expect(gate.gate.slots().rules).toBeNull();
  expect(run(flood.bytes())).toEqual([XDP_PASS, one(142, 'passed', 'passNoEntry')]);
});

kernelTest(
  'behind rules that match nothing every packet has the verdict that it has without',
  ['xdpFrags', 'syscallProgram'],
  () => {
    using gate = new TestGate({ vlanKey: true });
    gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
    gate.shunt(gateKey(6, A, B, 5), { seq: [1, 1], ack: [1, 1] });
    const v6 = { src: '2001:db8::1', dst: '2001:db8::2' };
    gate.shunt(gateKey(17, { addr: v6.src, port: 1 }, { addr: v6.dst, port: 2 }));
    const packets = [
      shunted,
      eth().vlan(5).ipv4(AB).tcp({ sport: A.port, dport: B.port, seq: 1, ack: 1, flags: 'A', window: 9 }),
      eth().ipv6(v6).udp({ sport: 1, dport: 2 }),
      eth().ipv6(v6).hopByHop().udp({ sport: 1, dport: 2 }),
      eth().ipv6(v6).udp({ sport: 1, dport: 3 }),
      eth().ipv6(v6).fragment({ offset: 0, more: true, id: 1 }).udp({ sport: 1, dport: 2 }),
      eth()
        .ipv4({ ...AB, protocol: 17, fragment: { offset: 8, more: true } })
        .payload('12345678'),
      eth().ipv4(AB).gre().ipv4(AB).udp({ sport: 1, dport: 2 }),
    ].map((packet) => packet.bytes());
    packets.push(
      packets[0].slice(0, 40),
      Uint8Array.from([...new Uint8Array(12), 8, 6, ...new Uint8Array(46)]),
    );
    const verdicts = () => packets.map((packet) => gate.run(packet));
    const without = verdicts();
    expect(new Set(without.map(({ verdict }) => verdict)).size).toBe(6);
    using rule = handRule(gate);
    gate.gate.setRules(rule.program('test_rule'));
    expect(verdicts()).toEqual(without);
    gate.gate.setRules(rule.program('test_chain'));
    expect(verdicts()).toEqual(without);
  },
);

kernelTest('rules chain by slots of their own', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  using rule = handRule(gate);
  occupy(gate.gate.table('rules'), RulesSlot.chain, rule.program('test_rule'));
  gate.gate.setRules(rule.program('test_chain'));
  const before = gate.gate.ledger();
  expect(gate.gate.program.testRun({ data: flood.bytes() }).retval).toBe(XDP_DROP);
  expect(since(gate, before)).toEqual({ seen: [1, 142], ruleDropped: [1, 142] });
});

kernelTest('rules stay when features and sizes change', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  using rule = handRule(gate);
  gate.gate.setRules(rule.program('test_rule'));
  const dropped = (): number => {
    const before = gate.gate.ledger();
    gate.gate.program.testRun({ data: flood.bytes() });
    return since(gate, before)['ruleDropped']?.[0] ?? 0;
  };
  expect(dropped()).toBe(1);
  gate.gate.enable({ pairs: true });
  expect(dropped()).toBe(1);
  gate.gate.prepare({ flows4: 2048, flows6: 2048 }).commit();
  expect(dropped()).toBe(1);
});

kernelTest(
  'the exit hook sees what rules drop, and may not be skipped',
  ['xdpFrags', 'syscallProgram'],
  () => {
    using gate = new TestGate();
    using rule = handRule(gate);
    using capture = returning(XDP_TX);
    gate.gate.setRules(rule.program('test_rule'));
    occupy(gate.gate.table('hook'), XDP_DROP, capture);
    expect(gate.gate.program.testRun({ data: flood.bytes() }).retval).toBe(XDP_TX);
    expect(gate.gate.program.testRun({ data: limited.bytes() }).retval).toBe(XDP_TX);
    expect(gate.gate.slots().hook).toEqual(['drop']);
  },
);

kernelTest('the next program runs behind our pass verdict alone', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
  using next = returning(XDP_TX);
  using capture = returning(XDP_PASS);
  const run = (packet: Uint8Array): number => gate.gate.program.testRun({ data: packet }).retval;
  gate.gate.setNext(next);
  expect(gate.gate.slots().next).toEqual({ id: next.id, name: 'foreign', reached: true });
  expect(run(flood.bytes())).toBe(XDP_TX);
  expect(run(shunted.bytes())).toBe(XDP_DROP);
  // A capture ends the way to it.
  occupy(gate.gate.table('hook'), XDP_PASS, capture);
  expect(gate.gate.slots().next?.reached).toBe(false);
  expect(run(flood.bytes())).toBe(XDP_PASS);
  occupy(gate.gate.table('hook'), XDP_PASS, undefined);
  expect(run(flood.bytes())).toBe(XDP_TX);
  gate.gate.setNext(undefined);
  expect(run(flood.bytes())).toBe(XDP_PASS);
});

kernelTest('a program that cannot be gone on to is refused', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  using single = returning(XDP_PASS, 0);
  expect(() => gate.gate.setNext(single)).toThrow(expect.objectContaining({ code: 'PROGRAM_UNFIT' }));
  expect(() => gate.gate.setRules(single)).toThrow(expect.objectContaining({ code: 'PROGRAM_UNFIT' }));
  expect(gate.gate.slots()).toEqual({ rules: null, next: null, hook: [] });
});

kernelTest(
  'rules exchanged 2,000 times under load: every packet is judged by one of them, and counted once',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using gate = new TestGate();
    // Both drop the flood, each by a rule of its own.
    using first = handRule(gate);
    using second = handRule(gate);
    gate.gate.setRules(first.program('test_rule'));
    const tally = new Int32Array(new SharedArrayBuffer(3 * 4));
    const workerData: HammerSetup = {
      program: gate.gate.program.fd,
      cpu: 1 % availableParallelism(),
      hopEvery: 0,
      cpus: availableParallelism(),
      frames: [flood.bytes()],
      counts: tally.buffer,
    };
    const before = gate.gate.ledger();
    const worker = new Worker(new URL('./hammer-worker.ts', import.meta.url), { workerData });
    while (Atomics.load(tally, 0) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    const begun = Atomics.load(tally, 0);
    // On a busy machine the other one may not have its turn in so short a time.
    for (let swap = 0; swap < 2000 || Atomics.load(tally, 0) === begun; swap++) {
      gate.gate.setRules((swap % 2 === 0 ? second : first).program('test_rule'));
      if (swap % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(Atomics.load(tally, 0)).toBeGreaterThan(begun);
    Atomics.store(tally, 2, 1);
    await once(worker, 'message');
    await worker.terminate();
    const sent = tally[0];
    expect(tally[1]).toBe(sent);
    expect(since(gate, before)).toEqual({ seen: [sent, sent * 142], ruleDropped: [sent, sent * 142] });
  },
);

kernelTest('gate up --next, gate next, gate status', [], async () => {
  await using gate = UpGate.interfaces();
  using next = returning(XDP_DROP);
  const pin = join(ensureBpffs(), `sluice-test-next-${process.pid}`);
  next.pin(pin);
  try {
    expect((await gate.start('--next', pin)).code).toBe(0);
    expect((await gate.status()).slots.next).toMatchObject({ id: next.id, name: 'foreign', reached: true });
    const cleared = await sluice('gate', 'next', '-i', gate.ifname, '--json', 'none');
    expect(JSON.parse(cleared.stdout)).toEqual({ next: null });
    expect((await gate.status()).slots.next).toBeNull();
    const again = await sluice('gate', 'next', '-i', gate.ifname, '--json', pin);
    expect(JSON.parse(again.stdout)).toEqual({ next: { id: next.id, name: 'foreign', reached: true } });
    // A daemon that is killed leaves the slot as it is.
    const { daemon } = await gate.status();
    process.kill(daemon.pid as number, 'SIGKILL');
    const left = await eventually(async () => {
      const status = await gate.status();
      return status.daemon.alive ? undefined : status;
    }, 'the daemon is dead');
    expect(left.slots.next).toMatchObject({ id: next.id });
    expect((await gate.start()).code).toBe(0);
    expect((await gate.status()).slots.next).toMatchObject({ id: next.id });
    const nothing = await sluice('gate', 'next', '-i', gate.ifname, '--json', `${pin}-not`);
    expect(nothing.code).toBe(1);
    expect(JSON.parse(nothing.stdout)).toMatchObject({ error: { code: 'NOT_FOUND' } });
  } finally {
    rmSync(pin);
  }
});
