import { expect } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { kernelTest } from '../support/kernel.ts';
import { lossless } from './lossless.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'] as const;
const ENDS = { src: '172.16.0.1', dst: '172.16.0.2' };

kernelTest(
  'records of tunnels and of what is in them are the same with the gate and without: VXLAN',
  [...FEATURES],
  async () => {
    const headers = eth().ipv4(ENDS).udp({ checksum: 0 }).vxlan({ vni: 77 }).bytes();
    const result = await lossless(
      { tunnel: { headers, sources: 4 } },
      { both: ['--tunnels', 'vxlan', '--tunnel-key'] },
    );
    expect(result.shunted).toBeGreaterThan(100);
  },
  120_000,
);
