import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSavedFlow, SAVED_FLOW_BYTES } from '../../src/flow/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import type { FrameToWrite } from '../../src/packet/pcap.ts';
import { Harness, packetOf } from './support/harness.ts';

const CUT = 40;

function feed(harness: Harness, frames: readonly FrameToWrite[]): void {
  for (const { ts, bytes } of frames) harness.engine.process(packetOf(bytes, ts as number));
}

/** The only flow that is open. */
function slotOf({ engine }: Harness): number {
  const slot = Array.from({ length: 1024 }, (_, i) => i).find((i) => engine.isOpen(i));
  if (slot === undefined) throw new Error('no flow is open');
  return slot;
}

function carryOver(from: Harness, to: Harness): Uint8Array {
  const slot = slotOf(from);
  const saved = new Uint8Array(SAVED_FLOW_BYTES);
  from.engine.save(slot, saved);
  const { family, bytes } = from.engine.key(slot);
  expect(isSavedFlow(saved, from.engine.proto(slot))).toBe(true);
  expect(to.engine.restore(family, bytes, saved)).toBeGreaterThanOrEqual(0);
  // Only once.
  expect(to.engine.restore(family, bytes, saved)).toBe(-1);
  return saved;
}

const talk = fc.record({
  wide: fc.boolean(),
  swapped: fc.boolean(),
  bytes: fc.integer({ min: 1, max: 60_000 }),
  close: fc.constantFrom(
    'client-fin' as const,
    'server-fin' as const,
    'client-rst' as const,
    'none' as const,
  ),
  retransmit: fc.constantFrom(0, 0.05, 0.3),
  seed: fc.nat(1000),
  from: fc.nat(4),
  cut: fc.double({ min: 0, max: 1, noNaN: true }),
});

describe('a flow that goes on in another engine', () => {
  test('has the record that it would have had in one, its uid included', () => {
    fc.assert(
      fc.property(talk, ({ wide, swapped, bytes, from, cut, ...rest }) => {
        const [low, high] = wide ? ['2001:db8::1', '2001:db8::2'] : ['10.0.0.1', '10.0.0.2'];
        const frames = conversation({
          client: { address: swapped ? high : low, port: 40_000 },
          server: { address: swapped ? low : high, port: 443 },
          turns: [
            { from: 'client', data: 500 },
            { from: 'server', data: bytes },
            { from: 'client', data: 3000 },
          ],
          ...rest,
        }).slice(from);
        const at = 1 + Math.floor(cut * (frames.length - 2));
        const whole = new Harness();
        const [first, second] = [new Harness({ seed: 7 }), new Harness({ seed: 99 })];
        feed(whole, frames);
        feed(first, frames.slice(0, at));
        carryOver(first, second);
        feed(second, frames.slice(at));
        expect(second.finish().length).toBe(whole.finish().length);
        const [mine, theirs] = [second.records[0], whole.records[0]];
        expect(mine).toEqual({ ...theirs, uid: first.finish()[0]?.uid });
      }),
      { numRuns: 150 },
    );
  });

  test('ends by the timers of its last packet', () => {
    const frames = conversation({ turns: [{ from: 'server', data: 9000 }], close: 'none', start: 1000 });
    const [first, second] = [new Harness(), new Harness({ seed: 8 })];
    feed(first, frames);
    second.engine.advance(1200);
    carryOver(first, second);
    second.engine.advance(1299);
    expect(second.records).toEqual([]);
    second.engine.advance(1302);
    expect(second.records).toEqual([first.only()]);
  });

  test('comes back with its first packet, when it is asked for then', () => {
    const frames = conversation({ turns: [{ from: 'server', data: 90_000 }] });
    const first = new Harness();
    feed(first, frames.slice(0, CUT));
    const slot = slotOf(first);
    const key = first.engine.key(slot);
    const saved = new Uint8Array(SAVED_FLOW_BYTES);
    first.engine.save(slot, saved);
    const asked: Uint8Array[] = [];
    const second = new Harness(
      { seed: 9 },
      {
        returning: (family, bytes) => {
          asked.push(bytes.slice());
          second.hooks.returning = undefined;
          return second.engine.restore(family, bytes, saved) >= 0;
        },
      },
    );
    feed(second, frames.slice(CUT));
    const whole = new Harness();
    feed(whole, frames);
    expect(asked).toEqual([key.bytes]);
    expect(second.only()).toEqual({ ...whole.only(), uid: first.only().uid });
  });
});

test('what is no saved flow is not taken for one', () => {
  const harness = new Harness();
  feed(harness, conversation({ turns: [{ from: 'server', data: 9000 }], close: 'none' }));
  const saved = new Uint8Array(SAVED_FLOW_BYTES);
  harness.engine.save(slotOf(harness), saved);
  expect(isSavedFlow(saved, 6)).toBe(true);
  expect(isSavedFlow(saved, 17)).toBe(false);
  expect(isSavedFlow(saved.subarray(1), 6)).toBe(false);
  expect(isSavedFlow(new Uint8Array(SAVED_FLOW_BYTES), 6)).toBe(false);
  fc.assert(
    fc.property(fc.nat(3), fc.integer({ min: 1, max: 255 }), (at, by) => {
      const other = saved.slice();
      other[at] = (other[at] ?? 0) ^ by;
      // Of another layout.
      expect(isSavedFlow(other, 6)).toBe(false);
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: SAVED_FLOW_BYTES, max: 0xffff_ffff }), (length) => {
      const other = saved.slice();
      new DataView(other.buffer).setUint32(4, length, true);
      expect(isSavedFlow(other, 6)).toBe(false);
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: SAVED_FLOW_BYTES, maxLength: SAVED_FLOW_BYTES }), (bytes) => {
      expect(isSavedFlow(bytes, 6)).toBe(false);
    }),
  );
});
