import { expect } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { lossless } from '../sensor/lossless.ts';
import { kernelTest } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'] as const;
const ENDS = { src: '172.16.0.1', dst: '172.16.0.2' };
const outer = () => eth().ipv4(ENDS);

kernelTest('lossless in GENEVE with options on a bad link, one tunnel for all', [...FEATURES], async () => {
  const options = [{ class: 0x0108, type: 1, data: new Uint8Array(8) }];
  const headers = outer().udp({ checksum: 0 }).geneve({ vni: 9, options, protocol: 0x6558 }).bytes();
  const result = await lossless(
    { tunnel: { headers, sources: 1 }, impair: { seed: 6, drop: 0.003, duplicate: 0.003, reorder: 0.003 } },
    { both: ['--tunnels', 'geneve'] },
  );
  expect(result.shunted).toBeGreaterThan(50);
});

kernelTest('lossless in GRE with a key', [...FEATURES], async () => {
  const headers = outer().gre({ key: 5, protocol: 0x6558 }).bytes();
  const result = await lossless({ tunnel: { headers } }, { both: ['--tunnels', 'gre'] });
  expect(result.shunted).toBeGreaterThan(100);
});

kernelTest(
  'lossless in VXLAN, each direction of each connection in a tunnel of its own',
  [...FEATURES],
  async () => {
    // Silences of so many tunnels would be as long as the time limit, to the tick: none is over within the test.
    const headers = outer().udp({ checksum: 0 }).vxlan({ vni: 3 }).bytes();
    const result = await lossless(
      { tunnel: { headers, sources: 16_000 } },
      { both: ['--tunnels', 'vxlan', '--timeout-udp', '2m'], slow: true },
    );
    expect(result.shunted).toBeGreaterThan(50);
  },
);

kernelTest(
  'lossless in VXLAN with ids in the key, the tunnels and what is in them',
  [...FEATURES],
  async () => {
    const headers = outer().udp({ checksum: 0 }).vxlan({ vni: 77 }).bytes();
    const result = await lossless(
      { tunnel: { headers, sources: 4 } },
      { both: ['--tunnels', 'vxlan', '--tunnel-key'] },
    );
    expect(result.shunted).toBeGreaterThan(100);
  },
);
