import { expect, test, vi } from 'vitest';
import { Graces } from '../../src/gate/graces.ts';

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

const state = (promise: Promise<void>): Promise<string> =>
  Promise.race([
    promise.then(() => 'over'),
    turn()
      .then(turn)
      .then(() => 'waits'),
  ]);

test('who asks while one is under way waits for the next, which all of them share', async () => {
  // They end when the test says so.
  const ends: (() => void)[] = [];
  const graces = new Graces(() => new Promise<void>((resolve) => ends.push(resolve)));
  const first = graces.pass();
  const [second, third] = [graces.pass(), graces.pass()];
  expect(ends.length).toBe(1);
  ends[0]();
  expect(await state(first)).toBe('over');
  expect(await state(second)).toBe('waits');
  expect(ends.length).toBe(2);
  ends[1]();
  expect(await state(second)).toBe('over');
  expect(await state(third)).toBe('over');
});

test('a wait that fails does not fail those that come after it', async () => {
  let calls = 0;
  const graces = new Graces(() => (calls++ === 0 ? Promise.reject(new Error('once')) : Promise.resolve()));
  const first = graces.pass();
  const second = graces.pass();
  await expect(first).rejects.toThrow('once');
  await expect(second).resolves.toBeUndefined();
});

test('what has time begins later, together', async () => {
  vi.useFakeTimers();
  try {
    let calls = 0;
    const graces = new Graces(() => {
      calls++;
      return Promise.resolve();
    });
    const all = [graces.soon(), graces.soon()];
    expect(calls).toBe(0);
    await vi.runAllTimersAsync();
    await Promise.all(all);
    expect(calls).toBe(1);
    const again = graces.soon();
    await vi.runAllTimersAsync();
    await again;
    expect(calls).toBe(2);
  } finally {
    vi.useRealTimers();
  }
});

test('what has time goes with a wait that begins meanwhile, and not with one that has begun', async () => {
  const ends: (() => void)[] = [];
  const graces = new Graces(() => new Promise<void>((resolve) => ends.push(resolve)));
  const first = graces.pass();
  const soon = graces.soon();
  ends[0]();
  expect(await state(first)).toBe('over');
  expect(await state(soon)).toBe('waits');
  const second = graces.pass();
  expect(ends.length).toBe(2);
  expect(await state(soon)).toBe('waits');
  ends[1]();
  expect(await state(second)).toBe('over');
  expect(await state(soon)).toBe('over');
});
