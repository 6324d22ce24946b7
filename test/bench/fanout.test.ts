import { expect } from 'vitest';
import { benchFanout } from '../../bench/fanout.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

kernelTest(
  'sluice bench fanout tells the modes that split flows from those that do not',
  ['packetRing'],
  async () => {
    const io = { progress: () => {}, stop: new AbortController().signal };
    const sizes = { flows: 40, repeat: 1000, rings: [2] };
    const [cost, { rows }] = (await benchFanout(1, io, sizes)).tables;
    expect(cost.rows).toHaveLength(12);
    expect(rows).toHaveLength(7);
    const of = (mode: string) => rows.find((row) => row['mode'] === mode);
    expect(of('ebpf')).toMatchObject({ split: 0, pieces: 0 });
    expect(of('hash')).toMatchObject({ split: 0 });
    expect(of('hash')?.['pieces']).toBeGreaterThan(0);
  },
);
