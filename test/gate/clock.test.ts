import { expect } from 'vitest';
import { coarseStep } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { gateKey, TestGate } from './support.ts';

ownNetns();

const A = { addr: '10.0.0.1', port: 1000 };
const B = { addr: '10.0.0.2', port: 2000 };
const now = (): number => Number(process.hrtime.bigint()) / 1e9;

kernelTest(
  'the time of a packet is that of its tick, kept or asked for',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using gate = new TestGate();
    const key = gateKey(17, A, B);
    gate.shunt(key);
    const packet = eth().ipv4({ src: A.addr, dst: B.addr }).udp({ sport: A.port, dport: B.port });
    // Two ticks: the gate may see that a tick has come a moment before the clock that it reads has moved.
    const late = 2 * coarseStep() + 0.02;
    let last = 0;
    for (let i = 0; i < 20; i++) {
      const before = now();
      // Many in one tick: all but the first read what is kept.
      for (let n = 0; n < 50; n++) gate.run(packet);
      const time = gate.read(key)?.dirs[0].last ?? 0;
      expect(time).toBeGreaterThanOrEqual(before - late);
      expect(time).toBeLessThanOrEqual(now());
      expect(time).toBeGreaterThanOrEqual(last);
      last = time;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  },
);
