import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RangePool } from '../../src/flow/ranges.ts';
import { FlowTable } from '../../src/flow/table.ts';
import { TimerWheel } from '../../src/flow/timers.ts';
import { UidSource, uidText } from '../../src/flow/uid.ts';

describe('the flow table', () => {
  test('finds what a map would find, after any order of insertions and removals', () => {
    // All keys hash alike in part of the runs: with a seed of zeros.
    const seed = fc.constantFrom(Int32Array.of(0, 0, 0), Int32Array.of(77, 0x1234567, 0x89abcdf));
    const step = fc.tuple(fc.nat(30), fc.boolean(), fc.boolean());
    fc.assert(
      fc.property(seed, fc.array(step, { maxLength: 300 }), (seed, steps) => {
        const table = new FlowTable(32, seed);
        const model = new Map<string, number>();
        const key = new Int32Array(12);
        for (const [id, wide, add] of steps) {
          const size = wide ? 12 : 4;
          key.fill(0);
          key[3] = id;
          const hash = table.hash(key, 0, size);
          const name = `${id} ${size}`;
          expect(table.find(key, 0, size, hash)).toBe(model.get(name) ?? -1);
          const slot = model.get(name);
          if (add && slot === undefined) {
            const taken = table.insert(key, 0, size, hash);
            if (model.size === 32) {
              expect(taken).toBe(-1);
            } else {
              expect([...model.values()]).not.toContain(taken);
              model.set(name, taken);
            }
          } else if (!add && slot !== undefined) {
            table.remove(slot);
            model.delete(name);
          }
          expect(table.active).toBe(model.size);
        }
        for (const [name, slot] of model) {
          const [id, size] = name.split(' ').map(Number);
          key.fill(0);
          key[3] = id;
          expect(table.find(key, 0, size, table.hash(key, 0, size))).toBe(slot);
        }
      }),
    );
  });

  test('keys that an attacker counts up spread under any seed', () => {
    for (let run = 0; run < 5; run++) {
      const table = new FlowTable(1 << 12, Int32Array.of(run * 7919, run * 104729 + 1, 0x9e3779b1 + 2 * run));
      const key = new Int32Array(4);
      const buckets = new Int32Array(1 << 10);
      for (let i = 0; i < 1 << 12; i++) {
        key[0] = i << 20;
        key[2] = i << 16;
        buckets[table.hash(key, 0, 4) & 1023]++;
      }
      expect(Math.max(...buckets)).toBeLessThan(20);
    }
  });
});

describe('the timer wheel', () => {
  test('each node is due once, not before its time and at most 1/8 s after it', () => {
    const times = fc.oneof(
      fc.double({ min: 0, max: 200, noNaN: true }),
      fc.double({ min: 0, max: 40_000, noNaN: true }),
      fc.constant(1e7),
    );
    const start = fc.constantFrom(0, 1_700_000_000.3);
    const steps = fc.array(fc.double({ min: 0.001, max: 5000, noNaN: true }), {
      minLength: 1,
      maxLength: 80,
    });
    fc.assert(
      fc.property(start, fc.array(times, { minLength: 1, maxLength: 40 }), steps, (start, waits, steps) => {
        const deadlines = waits.map((wait) => start + wait);
        const due: number[] = [];
        let before = start;
        const wheel = new TimerWheel(deadlines.length, {
          deadline: (node) => deadlines[node],
          upcoming: () => undefined,
          due: (node, now) => {
            expect(deadlines[node]).toBeLessThanOrEqual(now);
            expect(deadlines[node]).toBeGreaterThanOrEqual(before - 0.25);
            due.push(node);
          },
        });
        wheel.advance(start);
        for (const [node, deadline] of deadlines.entries()) wheel.set(node, deadline);
        wheel.clear(0);
        wheel.set(0, deadlines[0]);
        let now = start;
        for (const step of steps) {
          before = now;
          now += step;
          if (now >= wheel.next) wheel.advance(now);
          for (const [node, deadline] of deadlines.entries())
            if (deadline <= now - 0.25) expect(due).toContain(node);
        }
        expect(new Set(due).size).toBe(due.length);
      }),
    );
  });

  test('a node that puts itself back does not keep the wheel busy', () => {
    let runs = 0;
    const wheel: TimerWheel = new TimerWheel(1, {
      deadline: () => 0,
      upcoming: () => undefined,
      due: (node) => {
        runs++;
        wheel.set(node, 0);
      },
    });
    wheel.advance(10);
    wheel.set(0, 0);
    wheel.advance(11);
    expect(runs).toBe(8);
    wheel.advance(1e9);
    expect(runs).toBeLessThan(12);
  });
});

test('ranges are those of a set of numbers, in a pool that gives everything back', () => {
  const range = fc.tuple(fc.nat(100), fc.integer({ min: 1, max: 15 }));
  fc.assert(
    fc.property(fc.array(fc.array(range, { maxLength: 30 }), { maxLength: 5 }), (lists) => {
      const pool = new RangePool(40);
      for (const list of lists) {
        const model = new Set<number>();
        let head = 0;
        for (const [low, size] of list) {
          head = pool.add(head, low, low + size);
          for (let i = 0; i < size; i++) model.add(low + i);
        }
        expect(pool.total(head)).toBe(model.size);
        expect(pool.end(head)).toBe(model.size === 0 ? 0 : Math.max(...model) + 1);
        for (let last = -1; head !== 0; head = pool.shift(head)) {
          expect(pool.low(head)).toBeGreaterThan(last);
          for (let i = pool.low(head); i < pool.high(head); i++) expect(model.delete(i)).toBe(true);
          last = pool.high(head);
        }
        expect(model.size).toBe(0);
      }
    }),
  );
});

test('a pool without room says so and stays whole', () => {
  const pool = new RangePool(2);
  const list = pool.add(pool.add(0, 1, 2), 5, 6);
  expect(pool.add(list, 8, 9)).toBe(-1);
  expect(pool.total(list)).toBe(2);
  pool.clear(list);
  expect(pool.add(0, 8, 9)).toBeGreaterThan(0);
});

test('uids are 96 bits in base 62, in two parts', () => {
  expect(uidText(0, 0, 0)).toBe('C00');
  expect(uidText(61, 0, 62)).toBe('Cz10');
  expect(uidText(-1, -1, -1)).toBe('C4gfFC3LygHa16AHYF');
  const source = new UidSource(Int32Array.of(1, 2, 3));
  const seen = new Set<number>();
  for (let i = 0; i < 10_000; i++) seen.add(source.next());
  expect(seen.size).toBeGreaterThan(9990);
});
