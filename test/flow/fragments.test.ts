import { describe, expect, test } from 'vitest';
import { eth, ipv4, type PacketBuilder } from '../../src/packet/build.ts';
import { LinkType } from '../../src/packet/decode.ts';
import { A, answered, asked, B, SNAP, TunnelHarness, vxlan } from './support/tunnel-frames.ts';

const subframe = (inner: Uint8Array) => [...new Uint8Array(12), 0, inner.length + 8, ...SNAP, ...inner];

const pieces = (inner: Uint8Array, size: number, id: number) => {
  const out: PacketBuilder[] = [];
  for (let at = 20; at < inner.length; at += size)
    out.push(
      eth()
        .vlan(4)
        .ipv4({
          src: '10.0.0.1',
          dst: '10.0.0.2',
          id,
          protocol: 17,
          fragment: { offset: at - 20, more: at + size < inner.length },
        })
        .payload(inner.subarray(at, at + size)),
    );
  return out;
};

const big = (bytes: number) =>
  ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp({ sport: 1000, dport: 2000 }).payload(bytes);

describe('several packets in one frame, one packet in several frames', () => {
  test('an 802.11 aggregate', () => {
    const first = subframe(asked().bytes());
    const pad = (4 - (first.length & 3)) & 3;
    const frame = Uint8Array.of(
      0x88,
      2,
      ...new Uint8Array(22),
      0x80,
      0,
      ...first,
      ...new Uint8Array(pad),
      ...subframe(answered().bytes()),
    );
    const harness = new TunnelHarness();
    harness.feed(frame, 1, { linkType: LinkType.wlan });
    expect(harness.only()).toMatchObject({ history: 'Dd', origPkts: 1, respPkts: 1 });
    expect(harness.engine.stats.packets).toBe(1);
  });

  test('fragments count as one packet with the length of the whole, at the time of the last', () => {
    const harness = new TunnelHarness();
    pieces(big(3000).bytes(), 1480, 1).forEach((piece, i) => {
      harness.feed(piece, 100 + i);
    });
    expect(harness.only()).toMatchObject({
      ts: 102,
      origPkts: 1,
      origIpBytes: 3028,
      vlan: 4,
      history: 'D',
      duration: undefined,
    });
  });

  test('an incomplete datagram is nothing', () => {
    const harness = new TunnelHarness();
    for (const piece of pieces(big(3000).bytes(), 1480, 1).slice(1)) harness.feed(piece, 100);
    expect(harness.finish()).toEqual([]);
  });

  test.each([
    [399.5, 1],
    [400.5, 0],
  ])('the last piece at %d s, the first at 100: %i packets', (last, packets) => {
    const harness = new TunnelHarness();
    const [first, second, third] = pieces(big(3000).bytes(), 1480, 1);
    harness.feed(first, 100);
    harness.feed(second, 200);
    harness.feed(third, last);
    expect(harness.finish().map(({ origPkts }) => origPkts)).toEqual(packets === 0 ? [] : [1]);
  });

  test('the checksum is that of the whole', () => {
    const bad = ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp().badChecksum().payload(3000).bytes();
    const harness = new TunnelHarness();
    for (const piece of pieces(bad, 1480, 1)) harness.feed(piece, 100);
    expect(harness.only()).toMatchObject({ history: 'C', origPkts: 0 });
  });

  test('a tunnel in fragments, and fragments in a tunnel', () => {
    const harness = new TunnelHarness();
    const inner = vxlan('10.0.0.1', '10.0.0.2', big(2000).bytes()).bytes().subarray(14);
    for (const piece of pieces(inner, 1200, 2)) harness.feed(piece, 100);
    for (const piece of pieces(big(2000).bytes(), 1200, 3))
      harness.feed(vxlan(A, B, piece.bytes().subarray(18)), 101);
    const { inner: inside } = harness.split();
    expect(inside).toMatchObject([{ origPkts: 2, origIpBytes: 2 * 2028 }]);
    expect(inside[0].tunnelParents).toHaveLength(2);
  });
});
