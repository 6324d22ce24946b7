import { expect } from 'vitest';
import { benchCap } from '../../bench/cap.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

kernelTest('sluice bench cap measures each state of the hook, and leaves nothing', ['xdpFrags'], async () => {
  const { tables } = await benchCap(1, { progress() {}, stop: new AbortController().signal });
  const [{ rows }] = tables;
  expect(rows.map(({ state }) => state)).toContain('left of a killed capture');
  expect(rows.every(({ ns }) => Number(ns) > 0)).toBe(true);
});
