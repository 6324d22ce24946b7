import { expect } from 'vitest';
import { lossless } from '../sensor/lossless.ts';
import { kernelTest } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'xdpSocket', 'tcx'] as const;
const GATED = ['--capture', 'afxdp'];

kernelTest(
  'frames taken by AF_XDP: records are the same with the gate and without, on a bad link',
  [...FEATURES],
  async () => {
    const result = await lossless(
      { impair: { seed: 4321, drop: 0.005, duplicate: 0.004, reorder: 0.006 } },
      { gated: GATED },
    );
    expect(result.summary.interfaces[0].capture).toBe('afxdp (copy)');
    expect(result.shunted).toBeGreaterThan(100);
  },
  120_000,
);

kernelTest(
  'frames taken by AF_XDP: so they are with VLAN tags',
  [...FEATURES],
  async () => {
    const result = await lossless({ vlan: { inner: 100, outer: 200 } }, { gated: GATED });
    expect(result.shunted).toBeGreaterThan(100);
  },
  120_000,
);
