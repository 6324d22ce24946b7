import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { expect } from 'vitest';
import { Entry } from '../../src/gate/entry.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns, until } from '../support/kernel.ts';
import type { HammerSetup } from './hammer-worker.ts';
import { gateKey, TestGate } from './support.ts';

ownNetns();

const FLOWS = 100;
const ROUNDS = 100;
const B = { addr: '10.0.0.2', port: 443 };

/**
 * 10,000 cycles of arm, flip, end and delete, while both directions of every flow are hit at full rate on different
 * CPUs: what the entries counted, summed over the cycles, is what the senders saw dropped. Nothing is lost at any
 * of the changes, and nothing lands on another flow.
 */
async function hammer(hopEvery: number): Promise<void> {
  using gate = new TestGate({ maxShunts4: FLOWS });
  const flows = Array.from({ length: FLOWS }, (_, i) => ({ addr: '10.0.0.1', port: 2000 + i }));
  const keys = flows.map((a) => gateKey(6, a, B));
  const cpus = availableParallelism();
  const sides = [0, 1].map((side) => {
    const counts = new Int32Array(new SharedArrayBuffer((FLOWS * 2 + 1) * 4));
    const frames = flows.map((a) => {
      const [from, to] = side === 0 ? [a, B] : [B, a];
      return eth()
        .ipv4({ src: from.addr, dst: to.addr })
        .tcp({ sport: from.port, dport: to.port, seq: 100, ack: 100, flags: 'A', window: 100 })
        .bytes();
    });
    const workerData: HammerSetup = {
      program: gate.gate.program.fd,
      cpu: side % cpus,
      hopEvery,
      cpus,
      frames,
      counts: counts.buffer,
    };
    return { counts, worker: new Worker(new URL('./hammer-worker.ts', import.meta.url), { workerData }) };
  });
  const counted = Array.from({ length: FLOWS }, () => [0, 0]);
  const entry = new Entry();
  const { ops, owner } = gate.client;
  const all = (name: 'arm' | 'flip' | 'end'): void => {
    ops.clear();
    for (const key of keys) ops.push(name, 4, key.bytes, owner, 0, 0, [100, 100], [100, 100]);
    ops.run();
    for (let row = 0; row < FLOWS; row++) expect(ops.result(row), name).toBe(0);
  };
  for (let round = 0; round < ROUNDS; round++) {
    gate.client.lease.renew();
    all('arm');
    await new Promise((resolve) => setImmediate(resolve));
    all('flip');
    // Every flow is hit from both sides before it ends.
    const before = sides.map(({ counts }) => flows.map((_, flow) => counts[flow * 2 + 1]));
    const hit = (): boolean =>
      sides.every(({ counts }, side) => flows.every((_, flow) => counts[flow * 2 + 1] > before[side][flow]));
    await until(hit, 'a flow is not hit from both sides');
    all('end');
    await gate.client.grace();
    keys.forEach((key, flow) => {
      expect(gate.client.read(4, key.bytes, true, entry)).toBe(true);
      counted[flow][0] += entry.dirs[0].pkts;
      counted[flow][1] += entry.dirs[1].pkts;
      expect(entry.dirs[0].ipBytes + entry.dirs[1].ipBytes).toBe(entry.pkts * 40);
      gate.client.remove(4, key.bytes);
    });
  }
  for (const { counts, worker } of sides) {
    Atomics.store(counts, counts.length - 1, 1);
    await once(worker, 'message');
    await worker.terminate();
  }
  let dropped = 0;
  for (let flow = 0; flow < FLOWS; flow++) {
    for (const side of [0, 1]) {
      expect(counted[flow][side], `flow ${flow} side ${side}`).toBe(sides[side].counts[flow * 2 + 1]);
      dropped += counted[flow][side];
    }
  }
  const sent = sides.reduce((sum, { counts }) => {
    let total = sum;
    for (let flow = 0; flow < FLOWS; flow++) total += counts[flow * 2];
    return total;
  }, 0);
  const ledger = gate.gate.ledger();
  expect(ledger.seen.pkts).toBe(sent);
  expect(ledger.shunted.pkts).toBe(dropped);
  expect(ledger.passed.pkts).toBe(sent - dropped);
  expect(dropped).toBeGreaterThanOrEqual(2 * ROUNDS * FLOWS);
}

kernelTest(
  '10,000 arm, flip, end cycles at full rate from both sides',
  ['xdpFrags', 'syscallProgram', 'membarrier'],
  () => hammer(0),
);
kernelTest(
  'the same with both directions hopping between CPUs',
  ['xdpFrags', 'syscallProgram', 'membarrier'],
  () => hammer(37),
);
