import { describe, expect, it } from 'vitest';
import { Streams } from '../../src/detect/streams.ts';

const header = (sequence: number, clock: number, more: { streamLow?: number; lost?: number } = {}) => ({
  rows: 1,
  streamHigh: 1,
  streamLow: 1,
  lost: 0,
  ...more,
  sequence,
  clock,
});

describe('batches of an edge', () => {
  it('count once each, whatever the order, and those that never came are counted', () => {
    const streams = new Streams();
    const taken = [1, 2, 2, 5, 4, 4, 1, 9].filter(
      (sequence) => streams.accept(header(sequence, 1000 + sequence), 1000 + sequence) !== undefined,
    );
    expect(taken).toEqual([1, 2, 5, 4, 9]);
    expect(streams.counts).toMatchObject({ duplicate: 3, missing: 4, late: 0 });
    // Far behind: nobody knows any more whether it was there.
    streams.accept(header(200, 1200), 1200);
    expect(streams.accept(header(10, 1010), 1200)).toBeUndefined();
  });

  it('of another run of the sender are others', () => {
    const streams = new Streams();
    expect(streams.accept(header(7, 1000), 1000)).toBe(1000);
    expect(streams.accept(header(7, 1000, { streamLow: 2 }), 1000)).toBe(1000);
    expect(streams.size).toBe(2);
  });

  it('are told times here, however wrong the clock there is', () => {
    const streams = new Streams();
    for (const skew of [-86_400_000, 3_600_000]) {
      const accept = (sequence: number, sent: number, came: number) =>
        streams.accept(header(sequence, sent + skew, { streamLow: skew >>> 0 }), came);
      expect(accept(1, 1e9, 1e9 + 20)).toBe(1e9 + 20);
      expect(accept(2, 1e9 + 200, 1e9 + 205)).toBe(1e9 + 205);
      // What was held up on its way is as old as it is.
      expect(accept(3, 1e9 + 400, 1e9 + 1200)).toBe(1e9 + 405);
    }
  });

  it('that come too late count no more, until it is plain that the clock was set', () => {
    const streams = new Streams();
    streams.accept(header(1, 1e6), 1e6);
    expect(streams.accept(header(2, 1e6 + 100), 1e6 + 3000)).toBeUndefined();
    expect(streams.counts.late).toBe(1);
    expect(streams.accept(header(3, 1e6 - 50_000), 1e6 + 3200)).toBe(1e6 + 3200);
  });

  it('say what was lost there', () => {
    const streams = new Streams();
    streams.accept(header(1, 1000, { lost: 50 }), 1000);
    streams.accept(header(3, 1200, { lost: 70 }), 1200);
    streams.accept(header(2, 1100, { lost: 60 }), 1210);
    expect(streams.counts.lost).toBe(20);
  });

  it('do not use up memory', () => {
    const streams = new Streams();
    for (let streamLow = 0; streamLow < 40_000; streamLow++)
      streams.accept(header(1, 1000, { streamLow }), 1000);
    expect(streams.size).toBeLessThanOrEqual(16_384);
    expect(streams.accept(header(1, 1000, { streamLow: 99_999 }), 1000 + 200_000)).toBeDefined();
  });
});
