import { expect } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { lossless } from '../sensor/lossless.ts';
import { kernelTest } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'] as const;

for (const seed of [1, 2, 3, 4]) {
  kernelTest(`lossless on a bad link, seed ${seed}`, [...FEATURES], async () => {
    const result = await lossless({ impair: { seed, drop: 0.01, duplicate: 0.01, reorder: 0.01 } });
    expect(result.shunted).toBeGreaterThan(50);
  });
}

kernelTest('lossless on a bad link with tags in one direction', [...FEATURES], async () => {
  await lossless({
    impair: { seed: 5, drop: 0.003, duplicate: 0.003, reorder: 0.003 },
    vlan: { inner: 7, from: 'server' },
  });
});

kernelTest('lossless with frames of 9,000 bytes', [...FEATURES], async () => {
  await lossless({ mtu: 9000 });
});

kernelTest(
  'lossless when packets are still on their way to the ring as their flow is shunted',
  [...FEATURES],
  async () => {
    const result = await lossless({}, { slow: true });
    expect(result.shunted).toBeGreaterThan(100);
  },
);

/** The mirror ports wait for a tap with an XDP program; a backlog of the CPU tells nobody when it is full. */
const WAITING = { passOn: ['a', 'b'] } as const;
const SOCKET = ['--mode', 'socket'];

kernelTest(
  'lossless through a socket filter on a bad link with tags in one direction',
  [...FEATURES],
  async () => {
    const impair = { seed: 6, drop: 0.005, duplicate: 0.005, reorder: 0.005 };
    const vlan = { inner: 7, from: 'server' } as const;
    const result = await lossless({ ...WAITING, impair, vlan }, { gated: SOCKET });
    expect(result.shunted).toBeGreaterThan(50);
  },
);

kernelTest(
  'lossless through socket filters when tags tell connections apart, and there are two rings',
  [...FEATURES],
  async () => {
    const gated = [...SOCKET, '--workers', '2'];
    const vlan = { inner: 100, outer: 200 };
    const result = await lossless({ ...WAITING, vlan }, { gated, both: ['--vlan-key'] });
    expect(result.shunted).toBeGreaterThan(100);
  },
);

kernelTest(
  'lossless through a socket filter when packets are still on their way to the ring as their flow is shunted',
  [...FEATURES],
  async () => {
    const result = await lossless(WAITING, { gated: SOCKET, slow: true });
    expect(result.shunted).toBeGreaterThan(100);
  },
);

kernelTest(
  'lossless through a socket filter in VXLAN: the tunnel and what is in it',
  [...FEATURES],
  async () => {
    const ends = { src: '172.16.0.1', dst: '172.16.0.2' };
    const headers = eth().ipv4(ends).udp({ checksum: 0 }).vxlan({ vni: 77 }).bytes();
    const both = ['--tunnels', 'vxlan', '--tunnel-key'];
    const result = await lossless({ ...WAITING, tunnel: { headers, sources: 4 } }, { gated: SOCKET, both });
    expect(result.shunted).toBeGreaterThan(100);
  },
);

kernelTest('lossless with a filter on the sockets in place of XDP', [...FEATURES], async () => {
  const result = await lossless({ passOn: ['a', 'b'] }, { gated: ['--mode', 'socket'] });
  expect(result.summary.interfaces).toMatchObject([{ mode: 'socket' }]);
  expect(result.shunted).toBeGreaterThan(100);
  expect(result.apart).toBe(0);
});

kernelTest('lossless when both directions carry two tags', [...FEATURES], async () => {
  const result = await lossless({ vlan: { inner: 100, outer: 200 } });
  expect(result.shunted).toBeGreaterThan(100);
});
