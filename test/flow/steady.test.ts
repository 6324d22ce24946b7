import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SideDelta } from '../../src/flow/index.ts';
import { eth } from '../../src/packet/build.ts';
import { conversation, seeded } from '../../src/packet/conversation.ts';
import type { Packet } from '../../src/packet/packet.ts';
import type { FrameToWrite } from '../../src/packet/pcap.ts';
import { Harness, packetOf, segment } from './support/harness.ts';

const NOTHING: SideDelta = {
  pkts: 0,
  ipBytes: 0,
  payloadBytes: 0,
  seq: -1,
  ack: -1,
  edge: -1,
  seqWraps: 0,
  retransmits: 0,
  zeroWindows: 0,
  last: 0,
};

/** Frames that are lost, doubled and cut off here and there. */
function damaged(frames: FrameToWrite[], loss: number, seed: number): Packet[] {
  const random = seeded(seed);
  return frames.flatMap(({ ts, bytes }) => {
    const chance = random();
    if (chance < loss) return [];
    const packet = packetOf(bytes, ts as number);
    if (chance < 2 * loss) return [packet, packet];
    if (chance < 2.5 * loss) packet.caplen = Math.max(60, Math.floor(bytes.length / 2));
    return [packet];
  });
}

const talk = fc.record({
  loss: fc.constantFrom(0, 0, 0.02, 0.1),
  bytes: fc.integer({ min: 1, max: 300_000 }),
  back: fc.integer({ min: 1, max: 60_000 }),
  clientSeq: fc.constantFrom(1, 0xffff_f000, 0x7fff_ff00),
  serverSeq: fc.constantFrom(0, 0xffff_ff00, 0xfffe_0000),
  retransmit: fc.constantFrom(0, 0.05),
  reorder: fc.constantFrom(0, 0.05),
  close: fc.constantFrom('client-fin' as const, 'server-rst' as const, 'none' as const),
  seed: fc.nat(1000),
});

describe('the short way for segments of established connections', () => {
  test('gives the record that the long way gives', () => {
    fc.assert(
      fc.property(talk, ({ loss, bytes, back, ...rest }) => {
        const frames = conversation({
          turns: [
            { from: 'client', data: 400 },
            { from: 'server', data: bytes },
            { from: 'client', data: back },
          ],
          ...rest,
        });
        const [short, long] = [new Harness(), new Harness()];
        for (const packet of damaged(frames, loss, rest.seed)) {
          const slot = short.engine.process(packet);
          expect(long.engine.process(packet)).toBe(slot);
          // What the gate hands over may be anything: nothing is in step after it, so that the next segment goes the long way.
          if (slot >= 0) long.engine.absorb(slot, [NOTHING, NOTHING], []);
        }
        expect(short.finish()).toEqual(long.finish());
      }),
      { numRuns: 60 },
    );
  });

  test('windows that close, and old acknowledgements, are noticed', () => {
    const harness = new Harness();
    harness.feed(segment('client', 'S', 100, 0), 1);
    harness.feed(segment('server', 'SA', 500, 101), 1.1);
    harness.feed(segment('client', 'A', 101, 501), 1.2);
    for (let i = 0; i < 4; i++) {
      harness.feed(segment('client', 'A', 101 + 100 * i, 501, 100), 2 + i);
      harness.feed(segment('server', 'A', 501, 201 + 100 * i), 2.5 + i);
    }
    harness.feed(segment('server', 'A', 501, 501, 0, { window: 0 }), 7);
    harness.feed(segment('client', 'A', 401, 501, 100), 8);
    harness.feed(segment('server', 'A', 501, 301), 9);
    expect(harness.only()).toMatchObject({ history: 'ShADawT', origBytes: 400, duration: 8 });
  });
});

describe('processBatch', () => {
  test('gives what one packet after the other gives, in the same order', () => {
    const mixed = fc.array(fc.tuple(fc.nat(40), fc.nat(5)), { minLength: 1, maxLength: 400 });
    fc.assert(
      fc.property(mixed, fc.integer({ min: 1, max: 100 }), (picks, size) => {
        const packets = picks.map(([flow, kind], i) => {
          const src = `10.0.0.${flow}`;
          const frame =
            kind === 0
              ? eth()
                  .ipv6()
                  .udp({ sport: 1000 + flow })
              : kind === 1
                ? eth().payload(40)
                : kind === 2
                  ? eth()
                      .ipv4({ src })
                      .udp({ sport: 1000 + flow })
                      .payload(20)
                  : eth()
                      .ipv4({ src })
                      .tcp({ sport: 1000, flags: kind === 3 ? 'S' : 'A', seq: i })
                      .payload(kind === 4 ? 30 : 0);
          return packetOf(frame.bytes(), i);
        });
        // So few flows are kept that some are ended early.
        const [one, many] = [new Harness({ maxFlows: 16 }), new Harness({ maxFlows: 16 })];
        for (const packet of packets) one.engine.process(packet);
        for (let from = 0; from < packets.length; from += size) {
          const batch = packets.slice(from, from + size);
          many.engine.processBatch(batch, batch.length);
        }
        expect(many.finish()).toEqual(one.finish());
        expect(many.engine.stats).toEqual(one.engine.stats);
      }),
    );
  });
});
