import { expect, it } from 'vitest';
import { benchUdp } from '../../bench/udp.ts';

it('udp: every receiver is sent datagrams and says what they cost it', async () => {
  const io = { progress: () => {}, stop: new AbortController().signal };
  const { tables } = await benchUdp({ rounds: 1, rate: 20_000, seconds: 0.1 }, io);
  const [receivers, bars] = tables;
  expect(receivers?.rows.length).toBeGreaterThanOrEqual(3);
  for (const each of receivers?.rows ?? []) {
    expect(each['ns'], String(each['name'])).toBeGreaterThan(0);
    expect(each['lost'], String(each['name'])).toBeLessThan(4000);
  }
  expect(bars?.rows.map(({ kept }) => kept)).toHaveLength(2);
});
