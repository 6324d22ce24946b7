import { describe, expect, test } from 'vitest';
import { Loss } from '../../src/flow/index.ts';
import { Harness, handshake, segment } from './support/harness.ts';

/** An established connection, and what is lost of it. */
function established(): Harness {
  const harness = new Harness({ checksums: false });
  handshake(harness, 1);
  return harness;
}

const of = ({ engine: { losses } }: Harness) => ({
  acks: losses[Loss.acks],
  gaps: losses[Loss.gaps],
  gapBytes: losses[Loss.gapBytes],
  late: losses[Loss.late],
  lateDepth: losses[Loss.lateDepth],
});
const none = { gaps: 0, gapBytes: 0, late: 0, lateDepth: 0 };

describe('acknowledgements and gaps', () => {
  test('each acknowledgement of something new counts, a repeated one and that of the handshake do not', () => {
    const harness = established();
    expect(of(harness)).toEqual({ acks: 0, ...none });
    harness.feed(segment('client', 'A', 1001, 5001, 100), 2);
    harness.feed(segment('server', 'A', 5001, 1101), 3);
    harness.feed(segment('server', 'A', 5001, 1101), 3.1);
    harness.feed(segment('server', 'A', 5001, 1101, 500), 3.2);
    harness.feed(segment('client', 'A', 1101, 5501), 4);
    expect(of(harness)).toEqual({ acks: 2, ...none });
  });

  test('one of data that was not seen is a gap, once for all its holes', () => {
    const harness = established();
    // 1001 to 1100 and 1201 to 1250 are missing.
    harness.feed(segment('client', 'A', 1101, 5001, 100), 2);
    harness.feed(segment('server', 'A', 5001, 1251), 3);
    expect(of(harness)).toEqual({ ...none, acks: 1, gaps: 1, gapBytes: 150 });
    harness.feed(segment('client', 'A', 1251, 5001, 10), 4);
    harness.feed(segment('server', 'A', 5001, 1261), 5);
    expect(of(harness)).toMatchObject({ acks: 2, gaps: 1 });
    expect(harness.only()).toMatchObject({ missedBytes: 150 });
  });

  test('a connection that is shunted counts neither', () => {
    const harness = established();
    const slot = harness.feed(segment('client', 'A', 1001, 5001, 10), 2);
    harness.engine.setMark(slot, true);
    harness.feed(segment('server', 'A', 5001, 1011), 3);
    harness.feed(segment('server', 'A', 5001, 2011), 3.5);
    expect(of(harness)).toEqual({ acks: 0, ...none });
    harness.engine.setMark(slot, false);
    harness.feed(segment('client', 'A', 2011, 5001, 10), 4);
    harness.feed(segment('server', 'A', 5001, 2021), 5);
    expect(of(harness)).toMatchObject({ acks: 1, gaps: 0 });
  });

  test('as with Zeek, neither counts once a side has closed', () => {
    const harness = established();
    harness.feed(segment('client', 'FA', 1001, 5001), 2);
    harness.feed(segment('server', 'A', 5001, 1002, 100), 3);
    harness.feed(segment('client', 'A', 1002, 5101), 4);
    expect(of(harness)).toEqual({ acks: 0, ...none });
  });
});

describe('order', () => {
  test('data behind data that follows it is late, by so many bytes; data sent twice is not', () => {
    const harness = established();
    harness.feed(segment('client', 'A', 1101, 5001, 100), 2);
    harness.feed(segment('client', 'A', 1001, 5001, 100), 2.1);
    harness.feed(segment('client', 'A', 1001, 5001, 100), 2.2);
    expect(of(harness)).toEqual({ acks: 0, ...none, late: 1, lateDepth: 200 });
    harness.feed(segment('server', 'A', 5001, 1201), 3);
    expect(of(harness)).toMatchObject({ acks: 1, gaps: 0 });
  });

  test('a packet with an earlier time than one before it, and how far back', () => {
    const harness = established();
    const { losses } = harness.engine;
    harness.feed(segment('client', 'A', 1001, 5001, 10), 2);
    harness.feed(segment('server', 'A', 5001, 1011, 10), 1.75);
    harness.feed(segment('client', 'A', 1011, 5011, 10), 1.9);
    harness.feed(segment('client', 'A', 1021, 5011, 10), 2);
    expect([losses[Loss.outOfOrder], losses[Loss.outOfOrderDepth]]).toEqual([2, 0.25]);
  });

  test('damaged packets', () => {
    const harness = new Harness();
    const bytes = segment('client', 'S', 1000, 0).bytes();
    bytes[bytes.length - 1] ^= 1;
    harness.feed(bytes, 1);
    const last = new Harness();
    last.feed(segment('client', 'S', 1000, 0), 1);
    expect(last.engine.losses[Loss.badChecksums]).toBe(0);
    expect(harness.engine.losses[Loss.badChecksums]).toBe(1);
  });
});
