import { expect } from 'vitest';
import { benchCapture } from '../../bench/capture.ts';
import { kernelTest } from '../support/kernel.ts';

kernelTest(
  'sluice bench capture measures both ways behind the gate, and leaves nothing',
  ['xdpFrags', 'xdpNativeVeth', 'packetRing', 'xdpSocket', 'syscallProgram'],
  async () => {
    const io = { progress() {}, stop: new AbortController().signal };
    const { tables } = await benchCapture(1, io, 0.01);
    const [{ rows }] = tables;
    expect(rows.map(({ name, size }) => `${name} ${size}`)).toEqual([
      'ring 128',
      'afxdp 128',
      'ring 1400',
      'afxdp 1400',
    ]);
    expect(rows.every(({ both }) => Number(both) > 0)).toBe(true);
  },
);
