import { expect, vi } from 'vitest';
import type * as Kernel from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { gateKey, TestGate } from './support.ts';

/** As on a machine whose CPUs run without ticks. */
vi.mock('../../src/kernel/index.ts', async (original) => ({
  ...(await original<typeof Kernel>()),
  membarrier: () => Promise.reject(new Error('membarrier: EINVAL')),
}));

/** Less than what docs/adr/0004-syscall-program.md says: timers may be early by a millisecond. */
const GRACE_MS = 99;

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

kernelTest(
  'where membarrier is refused a grace period is time that passes, and no count is lost',
  [],
  async () => {
    using gate = new TestGate();
    const key = gateKey(17, { addr: '10.0.0.1', port: 1 }, { addr: '10.0.0.2', port: 2 });
    const packet = eth()
      .ipv4({ src: '10.0.0.1', dst: '10.0.0.2' })
      .udp({ sport: 1, dport: 2 })
      .payload('abc');
    gate.shunt(key);
    expect(gate.run(packet).verdict).toBe('shunted');
    const begun = performance.now();
    expect(gate.op('end', key)).toBe(0);
    await gate.client.grace();
    expect(performance.now() - begun).toBeGreaterThan(GRACE_MS);
    expect(gate.run(packet).verdict).toBe('passEnding');
    expect(gate.read(key)?.pkts).toBe(1);
    gate.client.remove(key.family, key.bytes);
    expect(gate.run(packet).verdict).toBe('passNoEntry');
  },
);
