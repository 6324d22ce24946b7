import { expect } from 'vitest';
import { kernelTest } from '../support/kernel.ts';
import { lossless } from './lossless.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'] as const;

/** Every way for a connection to be shunted and to end is among them. */
const KINDS = ['ssl', 'tcp'].flatMap((service) =>
  ['IPv4', 'IPv6'].flatMap((family) => ['fin', 'rst', 'idle'].map((end) => `${service} ${family} ${end}`)),
);

kernelTest(
  'records are the same with the gate and without, over 1,000 connections and more',
  [...FEATURES],
  async () => {
    const result = await lossless({});
    expect(Object.keys(result.kinds)).toEqual(expect.arrayContaining(KINDS));
    expect(result.shunted).toBeGreaterThan(100);
    expect(result.apart).toBe(0);
  },
  120_000,
);

kernelTest(
  'so they are when frames are lost, doubled and exchanged inside the shunted phase',
  [...FEATURES],
  async () => {
    const result = await lossless({ impair: { seed: 1234, drop: 0.005, duplicate: 0.004, reorder: 0.006 } });
    expect(result.shunted).toBeGreaterThan(100);
  },
  120_000,
);

kernelTest(
  'and when they carry VLAN tags',
  [...FEATURES],
  async () => {
    const result = await lossless({ vlan: { inner: 100, outer: 200 } });
    expect(result.shunted).toBeGreaterThan(100);
  },
  120_000,
);
