import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { expect } from 'vitest';
import { readEntry } from '../../src/gate/entry.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import type { HammerSetup } from './hammer-worker.ts';
import { type GateKey, gateKey, TestGate } from './support.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

const FEATURES = ['xdpFrags', 'syscallProgram'] as const;
const EEXIST = -17;
const MILLION = 1_000_000;
const B = { addr: '10.0.0.2', port: 443 };

/** Keys with `n` in their client's port and address. */
const key = (n: number): GateKey => gateKey(6, { addr: `10.1.${n >> 16}.1`, port: n & 0xffff }, B);

kernelTest(
  'room for a million entries of each family takes 330 and 400 bytes for each',
  [...FEATURES],
  () => {
    using gate = new TestGate({ maxShunts4: MILLION, maxShunts6: MILLION });
    const { flows4, flows6 } = gate.gate.handles(0);
    // All of it is taken when the table is made; this is how the kernel accounts for it.
    const each = (fd: number): number =>
      Number(/^memlock:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1]) / MILLION;
    expect(each(flows4)).toBeGreaterThan(192);
    expect(each(flows4)).toBeLessThanOrEqual(330);
    expect(each(flows6)).toBeGreaterThan(192);
    expect(each(flows6)).toBeLessThanOrEqual(400);
  },
);

kernelTest(
  'adding over an entry that is being hit on another CPU is refused, and takes nothing from its counters',
  [...FEATURES, 'membarrier'],
  async () => {
    using gate = new TestGate({ maxShunts4: 2048 });
    const live = key(1);
    gate.shunt(live, { seq: [100, 100], ack: [100, 100] });
    const counts = new Int32Array(new SharedArrayBuffer(3 * 4));
    const workerData: HammerSetup = {
      program: gate.gate.program.fd,
      cpu: availableParallelism() - 1,
      hopEvery: 0,
      cpus: availableParallelism(),
      frames: [
        eth()
          .ipv4({ src: '10.1.0.1', dst: B.addr })
          .tcp({ sport: 1, dport: B.port, seq: 100, ack: 100, flags: 'A', window: 100 })
          .bytes(),
      ],
      counts: counts.buffer,
    };
    const worker = new Worker(new URL('./hammer-worker.ts', import.meta.url), { workerData });
    while (Atomics.load(counts, 1) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    const begun = Atomics.load(counts, 1);
    const { ops, owner } = gate.client;
    // Each batch adds the live entry again, among others that are new, and takes those away again.
    // On a busy machine the other one may not have its turn in so short a time.
    for (let batch = 0; batch < 100 || Atomics.load(counts, 1) - begun <= 100; batch++) {
      ops.clear();
      for (let n = 0; n < 200; n++)
        ops.push('arm', 4, key(n % 2 === 0 ? 1 : 2 + n).bytes, owner, 0, 0, [1, 1], [1, 1]);
      ops.run();
      for (let n = 0; n < 200; n++) {
        expect(ops.result(n)).toBe(n % 2 === 0 ? EEXIST : 0);
        if (n % 2 === 1) gate.client.remove(4, key(2 + n).bytes);
      }
    }
    const during = Atomics.load(counts, 1) - begun;
    Atomics.store(counts, counts.length - 1, 1);
    await once(worker, 'message');
    await worker.terminate();
    expect(during).toBeGreaterThan(100);
    // All of its packets were dropped, and all of them are in its books.
    expect(counts[1]).toBe(counts[0]);
    expect(gate.read(live)?.pkts).toBe(counts[0]);
    expect(gate.gate.ledger().shunted.pkts).toBe(counts[0]);
  },
);

kernelTest(
  'a dump comes in slices with the event loop in between, and has every entry that stays, whatever comes and goes',
  [...FEATURES],
  async () => {
    const STAY = 20_000;
    using gate = new TestGate({ maxShunts4: 2 * STAY });
    const { ops, owner } = gate.client;
    const armAll = (from: number, count: number): void => {
      for (let n = from; n < from + count; ) {
        ops.clear();
        for (; n < from + count && !ops.full; n++)
          ops.push('arm', 4, key(n).bytes, owner, 0, n, [0, 0], [0, 0]);
        ops.run();
        for (let row = 0; row < ops.count; row++) expect(ops.result(row)).toBe(0);
      }
    };
    armAll(0, STAY);
    const seen = new Uint8Array(STAY);
    let strangers = 0;
    let turns = 0;
    let done = false;
    const churn = (): void => {
      if (done) return;
      turns++;
      armAll(STAY, 50);
      for (let n = STAY; n < STAY + 50; n++) gate.client.remove(4, key(n).bytes);
      setImmediate(churn);
    };
    churn();
    const total = await gate.client.sweep(4, (_keys, _offset, values, at) => {
      readEntry(values, at, 4, true, gate.entry);
      if (gate.entry.cookie < STAY) seen[gate.entry.cookie]++;
      else strangers++;
    });
    done = true;
    expect(seen.every((times) => times === 1)).toBe(true);
    expect(total).toBe(STAY + strangers);
    // One slice is no more than a thousand entries.
    expect(turns).toBeGreaterThan(STAY / 1000);
  },
);
