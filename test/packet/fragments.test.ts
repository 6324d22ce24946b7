import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ipv4, ipv6, pattern } from '../../src/packet/build.ts';
import { Decoded, Decoder, LinkType } from '../../src/packet/decode.ts';
import { Fragments } from '../../src/packet/fragments.ts';
import { packetOf } from '../flow/support/harness.ts';

const LIMITS = { timeout: 300, bytes: 1_000_000 };

const far = (id: number) =>
  ipv4({ id, protocol: 1, fragment: { offset: 60_000, more: true } })
    .payload(8)
    .bytes();

/** Feeds IP packets; the datagrams that came out. */
class Feeder {
  readonly fragments: Fragments;
  readonly #decoder = new Decoder(true);

  constructor(limits = LIMITS) {
    this.fragments = new Fragments(limits);
  }

  feed(bytes: Uint8Array, now = 0, wirelen = bytes.length): Uint8Array | undefined {
    const packet = packetOf(bytes, now, { linkType: LinkType.raw, wirelen });
    expect(this.#decoder.decode(packet)).toBe(Decoded.fragment);
    return this.fragments.add(this.#decoder, packet.u8, now);
  }
}

const whole4 = ipv4({ id: 7 }).udp({ sport: 5, dport: 6 }).payload(1000).bytes();
const data4 = whole4.subarray(20);
const piece4 = (from: number, to: number, more: boolean, data: Uint8Array = data4, id = 7) =>
  ipv4({ id, protocol: 17, fragment: { offset: from, more } })
    .payload(data.subarray(from, to))
    .bytes();
const whole6 = ipv6().hopByHop().udp({ sport: 5, dport: 6 }).payload(1000).bytes();
const data6 = whole6.subarray(48);
const piece6 = (from: number, to: number, more: boolean, id = 9) =>
  ipv6()
    .hopByHop()
    .fragment({ offset: from, more, id, nextHeader: 17 })
    .payload(data6.subarray(from, to))
    .bytes();

function decoded(bytes: Uint8Array | undefined) {
  if (bytes === undefined) throw new Error('no datagram');
  const decoder = new Decoder(true);
  const packet = packetOf(bytes, 0, { linkType: LinkType.raw });
  expect(decoder.decode(packet)).toBe(Decoded.ok);
  expect(decoder.checksumHolds(packet)).toBe(true);
  return decoder;
}

describe('a datagram', () => {
  test('IPv4: whole with its last piece, in any order, as it was sent', () => {
    const pieces = [piece4(0, 400, true), piece4(400, 800, true), piece4(800, 1008, false)];
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 0, 2],
      [2, 0, 1],
    ]) {
      const feeder = new Feeder();
      const out = order.map((i) => feeder.feed(pieces[i]));
      expect(out.slice(0, 2)).toEqual([undefined, undefined]);
      expect(decoded(out[2])).toMatchObject({ ipBytes: whole4.length, transportBytes: 1008, sourcePort: 5 });
      expect(Buffer.from(out[2] as Uint8Array).subarray(20)).toEqual(Buffer.from(data4));
      expect([feeder.fragments.waiting, feeder.fragments.bytes]).toEqual([0, 0]);
    }
  });

  test('IPv6: the fragment header is gone, those before it stay', () => {
    const feeder = new Feeder();
    expect(feeder.feed(piece6(496, 1008, false))).toBeUndefined();
    const out = feeder.feed(piece6(0, 496, true));
    expect(Buffer.from(out as Uint8Array)).toEqual(Buffer.from(whole6));
  });

  test('IPv6: one piece with a fragment header is a datagram', () => {
    expect(decoded(new Feeder().feed(piece6(0, 1008, false)))).toMatchObject({ ipBytes: whole6.length });
  });

  test('identifiers and addresses keep datagrams apart', () => {
    const feeder = new Feeder();
    feeder.feed(piece4(0, 400, true));
    expect(feeder.feed(piece4(400, 1008, false, data4, 8))).toBeUndefined();
    expect(feeder.feed(piece6(400, 1008, false, 7))).toBeUndefined();
    expect(feeder.fragments.waiting).toBe(3);
    expect(feeder.feed(piece4(400, 1008, false))).toBeDefined();
  });

  test('a duplicate after the end begins another one', () => {
    const feeder = new Feeder();
    feeder.feed(piece4(0, 400, true));
    feeder.feed(piece4(400, 1008, false));
    expect(feeder.feed(piece4(0, 400, true))).toBeUndefined();
    expect(feeder.fragments.waiting).toBe(1);
  });

  test('of overlapping data the first stays', () => {
    const other = new Uint8Array(1008).fill(0xee);
    const feeder = new Feeder();
    feeder.feed(piece4(200, 600, true, other));
    feeder.feed(piece4(0, 400, true));
    const out = feeder.feed(piece4(400, 1008, false)) as Uint8Array;
    const expected = data4.slice();
    expected.fill(0xee, 200, 600);
    expect(Buffer.from(out).subarray(20)).toEqual(Buffer.from(expected));
  });

  test('one that ends twice is as long as the longer one', () => {
    const feeder = new Feeder();
    feeder.feed(piece4(400, 800, false));
    feeder.feed(piece4(800, 1008, false));
    expect(feeder.feed(piece4(0, 400, true))).toHaveLength(whole4.length);
  });

  test('what lies beyond the end and a hole is left out', () => {
    const feeder = new Feeder();
    feeder.feed(piece4(0, 400, true));
    feeder.feed(piece4(800, 1008, true));
    // Zeek: intermingled datagrams; what holds together up to the end is taken.
    expect(feeder.feed(piece4(400, 600, false))).toHaveLength(20 + 600);
  });
});

describe('limits', () => {
  test('five minutes after its first fragment a datagram is given up', () => {
    for (const [last, whole] of [
      [299, true],
      [300, false],
    ] as const) {
      const feeder = new Feeder();
      feeder.feed(piece4(0, 400, true), 0);
      feeder.feed(piece4(400, 800, true), 200);
      expect(feeder.feed(piece4(800, 1008, false), last) !== undefined).toBe(whole);
    }
  });

  test('a fragment that was not captured whole is left out', () => {
    const feeder = new Feeder();
    const piece = piece4(400, 1008, false);
    expect(feeder.feed(piece.subarray(0, 100), 0, piece.length)).toBeUndefined();
    expect(feeder.fragments.waiting).toBe(0);
  });

  test('no datagram is longer than IP allows', () => {
    const feeder = new Feeder();
    const end = ipv4({ id: 1, protocol: 1, fragment: { offset: 65_528, more: false } })
      .payload(8)
      .bytes();
    expect(feeder.feed(end)).toBeUndefined();
    expect(feeder.fragments.waiting).toBe(0);
  });

  test('memory: the oldest goes first', () => {
    const feeder = new Feeder({ timeout: 300, bytes: 100_000 });
    for (let id = 0; id < 1000; id++) {
      feeder.feed(piece4(8, 1000, true, data4, id), id / 100);
      expect(feeder.fragments.bytes).toBeLessThanOrEqual(100_000);
    }
    expect(feeder.fragments.waiting).toBeGreaterThan(50);
    feeder.feed(piece4(0, 8, true, data4, 999), 10);
    expect(feeder.feed(piece4(1000, 1008, false, data4, 999), 10)).toBeDefined();
  });

  test('memory: a far offset costs no more than a datagram', () => {
    const feeder = new Feeder({ timeout: 300, bytes: 1_000_000 });
    for (let id = 0; id < 100; id++) feeder.feed(piece4(0, 8, true, data4, id));
    for (let id = 0; id < 100; id++) feeder.feed(far(id));
    expect(feeder.fragments.bytes).toBeLessThanOrEqual(1_000_000);
  });

  test('a datagram in crumbs is given up', () => {
    const feeder = new Feeder();
    for (let i = 0; i < 600; i++)
      feeder.feed(
        ipv4({ id: 3, protocol: 17, fragment: { offset: 16 * i, more: true } })
          .payload(8)
          .bytes(),
      );
    expect(feeder.fragments.waiting).toBe(1);
    expect(feeder.fragments.bytes).toBeLessThan(40_000);
  });
});

test('any cut and order of pieces, with overlaps, gives the bytes that were sent', () => {
  const data = pattern(2000);
  const piece = fc.tuple(fc.nat(249), fc.integer({ min: 1, max: 60 }));
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), fc.boolean(), (pieces, endFirst) => {
      const feeder = new Feeder();
      const seen = new Uint8Array(250);
      const end = () => piece4(1992, 2000, false, data, 5);
      if (endFirst) feeder.feed(end());
      let out: Uint8Array | undefined;
      for (const [from, units] of [...pieces, [0, 60], [60, 60], [120, 60], [180, 69]] as const) {
        const to = Math.min(249, from + units);
        if (out !== undefined || from >= to) continue;
        seen.fill(1, from, to);
        out = feeder.feed(piece4(from * 8, to * 8, true, data, 5));
        expect(out !== undefined).toBe(endFirst && seen.subarray(0, 249).every((bit) => bit === 1));
      }
      out ??= feeder.feed(end());
      expect(Buffer.from(out as Uint8Array).subarray(20)).toEqual(Buffer.from(data));
      expect(feeder.fragments.bytes).toBe(0);
    }),
    { numRuns: 300 },
  );
});

test('no fragments make it throw or keep more than it may', () => {
  const fragment = fc.record({
    id: fc.nat(3),
    offset: fc.nat(8191),
    more: fc.boolean(),
    bytes: fc.nat(3000),
    wait: fc.double({ min: -10, max: 200, noNaN: true }),
  });
  fc.assert(
    fc.property(fc.array(fragment, { maxLength: 80 }), (list) => {
      const feeder = new Feeder({ timeout: 300, bytes: 150_000 });
      let now = 1000;
      for (const { id, offset, more, bytes, wait } of list) {
        now += wait;
        if (offset === 0 && !more) continue;
        const packet = ipv4({ id, protocol: 17, fragment: { offset: offset * 8, more } })
          .payload(bytes)
          .bytes();
        const out = feeder.feed(packet, now);
        if (out !== undefined) expect(out.length).toBeLessThanOrEqual(65_535);
        expect(feeder.fragments.bytes).toBeGreaterThanOrEqual(0);
        expect(feeder.fragments.bytes).toBeLessThanOrEqual(150_000);
      }
    }),
    { numRuns: 300 },
  );
});
