import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { Decoded, Decoder } from '../../src/packet/decode.ts';
import { Packet } from '../../src/packet/packet.ts';
import { type FrameOptions, packetOf } from '../flow/support/harness.ts';

function decode(frame: PacketBuilder | Uint8Array, options: FrameOptions = {}, checksums = true) {
  const decoder = new Decoder(checksums);
  const packet = packetOf(frame instanceof Uint8Array ? frame : frame.bytes(), 0, options);
  const verdict = decoder.decode(packet);
  return { verdict, decoder, holds: verdict === Decoded.ok && decoder.checksumHolds(packet) };
}

function ports(frame: PacketBuilder): [number, number] {
  const { decoder } = decode(frame);
  return [decoder.sourcePort, decoder.destinationPort];
}

const tcp = { sport: 1234, dport: 443 };

describe('frames that become packets', () => {
  const stacks: [string, PacketBuilder, Partial<Decoder>][] = [
    ['IPv4', eth().ipv4().tcp(tcp).payload(5), { family: 4, ipBytes: 45, transportBytes: 25, captured: 25 }],
    [
      'IPv4 options',
      eth()
        .ipv4({ options: new Uint8Array(8) })
        .tcp(tcp)
        .payload(5),
      { ipBytes: 53, transportBytes: 25 },
    ],
    ['IPv6', eth().ipv6().tcp(tcp).payload(5), { family: 6, ipBytes: 65, transportBytes: 25 }],
    [
      'IPv6 extension headers',
      eth().ipv6().hopByHop().destination(new Uint8Array(30)).ah().tcp(tcp).payload(5),
      { family: 6, transportBytes: 25 },
    ],
    ['one tag', eth().vlan(7).ipv4().tcp(tcp), { vlan: 7, innerVlan: 0 }],
    ['two tags', eth().qinq(7).vlan(9).ipv4().tcp(tcp), { vlan: 7, innerVlan: 9 }],
    [
      'four tags, priority tags left out',
      eth().vlan(0, { prio: 3 }).vlan(5, { tpid: 0x9100 }).vlan(0).vlan(4095).ipv6().tcp(tcp),
      { vlan: 5, innerVlan: 4095 },
    ],
  ];
  for (const [name, frame, expected] of stacks) {
    test(name, () => {
      const { verdict, decoder, holds } = decode(frame);
      expect(verdict).toBe(Decoded.ok);
      expect(decoder).toMatchObject({ protocol: 6, sourcePort: 1234, destinationPort: 443, ...expected });
      expect(holds).toBe(true);
    });
  }

  test('a tag that the NIC took out is the outermost', () => {
    const { decoder } = decode(eth().vlan(9).ipv4().tcp(tcp), { vlanTci: 0x6007 });
    expect(decoder).toMatchObject({ vlan: 7, innerVlan: 9 });
  });

  test('the next frame has no VLAN of the one before', () => {
    const decoder = new Decoder(true);
    decoder.decode(packetOf(eth().vlan(7).ipv4().tcp(tcp).bytes()));
    decoder.decode(packetOf(eth().ipv4().tcp(tcp).bytes()));
    expect(decoder).toMatchObject({ vlan: 0, innerVlan: 0 });
  });

  test('Ethernet padding does not count', () => {
    const short = eth().ipv4().udp({ sport: 5, dport: 6 }).payload(1).bytes();
    const frame = new Uint8Array(60);
    frame.set(short);
    const { verdict, decoder, holds } = decode(frame);
    expect([verdict, holds]).toEqual([Decoded.ok, true]);
    expect(decoder).toMatchObject({ ipBytes: 29, transportBytes: 9, captured: 9 });
  });

  test('a short capture keeps the lengths of the header and leaves the checksum', () => {
    const frame = eth().ipv4().tcp(tcp).payload(1000).badChecksum().bytes();
    const { verdict, decoder, holds } = decode(frame.subarray(0, 64), { wirelen: frame.length });
    expect([verdict, holds]).toEqual([Decoded.ok, true]);
    expect(decoder).toMatchObject({ ipBytes: 1040, transportBytes: 1020, captured: 30 });
  });

  test('a total length of 0 is what was captured, with checksums ignored only', () => {
    const frame = eth().ipv4({ totalLength: 0 }).tcp(tcp).payload(100);
    expect(decode(frame).verdict).toBe(Decoded.ipChecksum);
    const { verdict, decoder } = decode(frame, {}, false);
    expect(verdict).toBe(Decoded.ok);
    expect(decoder).toMatchObject({ ipBytes: 0, transportBytes: 120 });
  });

  test('routing header 0 with segments left names the destination', () => {
    const frame = eth()
      .ipv6({ src: 'fd00::1', dst: 'fd00::2', finalDst: 'fd00::9' })
      .routing({ segmentsLeft: 1, addresses: ['fd00::9'] })
      .tcp(tcp);
    const { verdict, decoder, holds } = decode(frame);
    expect([verdict, holds]).toEqual([Decoded.ok, true]);
    const bytes = packetOf(frame.bytes()).u8;
    expect(bytes[decoder.destination + 15]).toBe(9);
  });

  test('an IP version other than the Ethertype says', () => {
    expect(decode(eth({ type: 0x0800 }).ipv6().tcp(tcp)).decoder.family).toBe(6);
  });

  test('other protocols have no ports', () => {
    const { verdict, decoder } = decode(eth().ipv4().sctp());
    expect(verdict).toBe(Decoded.ok);
    expect(decoder).toMatchObject({ protocol: 132, sourcePort: 0, destinationPort: 0 });
  });
});

describe('ICMP ports', () => {
  test('a type and its counterpart', () => {
    expect(ports(eth().ipv4().icmp({ type: 8 }))).toEqual([8, 0]);
    expect(ports(eth().ipv4().icmp({ type: 0 }))).toEqual([0, 8]);
    expect(ports(eth().ipv4().icmp({ type: 14 }))).toEqual([14, 13]);
    expect(ports(eth().ipv6().icmpv6({ type: 136 }))).toEqual([136, 135]);
    expect(ports(eth().ipv6().icmpv6({ type: 145 }))).toEqual([145, 144]);
  });
  test('a type without one is marked, against the code', () => {
    expect(ports(eth().ipv4().icmp({ type: 3, code: 1 }))).toEqual([0x8003, 1]);
    expect(ports(eth().ipv6().icmpv6({ type: 1, code: 4 }))).toEqual([0x8001, 4]);
  });
});

describe('frames that do not', () => {
  const big = eth().ipv4().tcp(tcp).payload(100);
  const cases: [string, PacketBuilder | Uint8Array, number, FrameOptions?][] = [
    ['five tags', eth().vlan(1).vlan(2).vlan(3).vlan(4).vlan(5).ipv4().tcp(tcp), Decoded.tags],
    ['another link type', eth().ipv4().tcp(tcp), Decoded.linkType, { linkType: 999 }],
    ['ARP', eth({ type: 0x0806 }).payload(46), Decoded.notIp],
    [
      'a fragment',
      eth()
        .ipv4({ fragment: { offset: 0, more: true } })
        .udp()
        .payload(64),
      Decoded.fragment,
    ],
    [
      'a later fragment',
      eth()
        .ipv4({ fragment: { offset: 64, more: false }, protocol: 17 })
        .payload(64),
      Decoded.fragment,
    ],
    [
      'an IPv6 fragment',
      eth().ipv6().fragment({ offset: 64, more: true }).udp().payload(64),
      Decoded.fragment,
    ],
    ['a bad IPv4 checksum', eth().ipv4().badChecksum().tcp(tcp), Decoded.ipChecksum],
    ['a total length beyond the frame', eth().ipv4({ totalLength: 500 }).tcp(tcp), Decoded.malformed],
    [
      'a header length beyond the total length',
      eth().ipv4({ totalLength: 20, ihl: 6 }).tcp(tcp),
      Decoded.malformed,
    ],
    ['a header length below 5', eth().ipv4({ ihl: 4 }).tcp(tcp), Decoded.malformed],
    ['an unknown version', eth().ipv4({ version: 5 }).tcp(tcp), Decoded.malformed],
    ['too little for TCP', eth().ipv4({ protocol: 6 }).payload(19), Decoded.short],
    ['a header of which padding would be read', eth().ipv4({ totalLength: 20 }).tcp(tcp), Decoded.short],
    ['too little for UDP', eth().ipv4({ protocol: 17 }).payload(7), Decoded.short],
    ['too little for ICMP', eth().ipv4({ protocol: 1 }).payload(7), Decoded.short],
    ['cut below the ports', big.bytes().subarray(0, 40), Decoded.short, { wirelen: 154 }],
    ['no next header', eth().ipv6().hopByHop(new Uint8Array(0), 59).payload(8), Decoded.noFlow],
    ['IPv6 ESP', eth().ipv6({ nextHeader: 50 }).payload(64), Decoded.noFlow],
    ['IGMP', eth().ipv4({ protocol: 2 }).payload(8), Decoded.noFlow],
    ['IP in IP', eth().ipv4().ipv4().tcp(tcp), Decoded.carrier],
    [
      'an extension header beyond the packet',
      eth()
        .ipv6({ nextHeader: 0 })
        .payload(Uint8Array.of(6, 200, 0, 0, 0, 0, 0, 0)),
      Decoded.short,
    ],
  ];
  for (const [name, frame, verdict, options] of cases) {
    test(name, () => {
      expect(decode(frame, options).verdict).toBe(verdict);
    });
  }

  test('ESP over IPv4 is a protocol as any other', () => {
    expect(decode(eth().ipv4({ protocol: 50 }).payload(64)).verdict).toBe(Decoded.ok);
  });

  test('a first fragment that was cut by the capture is taken as it is', () => {
    const frame = eth()
      .ipv4({ fragment: { offset: 0, more: true } })
      .udp()
      .payload(640)
      .bytes();
    expect(decode(frame.subarray(0, 100), { wirelen: frame.length }).verdict).toBe(Decoded.ok);
  });
});

describe('checksums', () => {
  test.each([
    ['TCP', eth().ipv4().tcp(tcp).badChecksum().payload(9)],
    ['UDP', eth().ipv6().udp().badChecksum().payload(9)],
    ['UDP over IPv6 without one', eth().ipv6().udp({ checksum: 0 }).payload(9)],
    ['ICMP', eth().ipv4().icmp().badChecksum().payload(9)],
    ['ICMPv6', eth().ipv6().icmpv6().badChecksum().payload(9)],
  ])('bad: %s', (_name, frame) => {
    expect(decode(frame).verdict).toBe(Decoded.ok);
    expect(decode(frame).holds).toBe(false);
    expect(decode(frame, { checksum: 1 }).holds).toBe(true);
    expect(decode(frame, { checksum: 2 }).holds).toBe(true);
  });
  test.each([
    ['UDP over IPv4 without one', eth().ipv4().udp({ checksum: 0 }).payload(9)],
    ['VXLAN over IPv6 without one', eth().ipv6().udp({ checksum: 0 }).vxlan().eth().ipv4().tcp(tcp)],
    ['SCTP is not looked at', eth().ipv4().sctp({ checksum: 1 })],
    ['ICMPv6 with an odd length', eth().ipv6().icmpv6().payload(9)],
  ])('good: %s', (_name, frame) => {
    expect(decode(frame).holds).toBe(true);
  });
});

test('no bytes make it throw, and what it finds lies inside of the frame', () => {
  const seeds = [
    eth()
      .vlan(3)
      .ipv4({ options: new Uint8Array(4) })
      .tcp(tcp)
      .payload(40)
      .bytes(),
    eth()
      .ipv6()
      .hopByHop()
      .routing({ addresses: ['fd00::1'], segmentsLeft: 1 })
      .ah()
      .udp()
      .payload(20)
      .bytes(),
    eth().ipv6().fragment({ offset: 0, more: true }).icmpv6().payload(20).bytes(),
  ];
  const decoder = new Decoder(false);
  const check = (bytes: Uint8Array, wirelen: number) => {
    const packet = packetOf(bytes, 0, { wirelen });
    if (decoder.decode(packet) !== Decoded.ok) return;
    decoder.checksumHolds(packet);
    const end = packet.offset + packet.caplen;
    expect(decoder.transport + decoder.captured).toBeLessThanOrEqual(end);
    expect(decoder.captured).toBeLessThanOrEqual(decoder.transportBytes);
    expect(decoder.destination).toBeGreaterThan(packet.offset);
    expect(decoder.destination + (decoder.family === 4 ? 4 : 16)).toBeLessThanOrEqual(end);
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.nat(200), (bytes, extra) =>
      check(bytes, bytes.length + extra),
    ),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...seeds),
      fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 6 }),
      fc.nat(120),
      (seed, changes, cut) => {
        const bytes = seed.slice();
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        check(bytes.subarray(0, Math.min(cut, bytes.length)), bytes.length);
      },
    ),
    { numRuns: 3000 },
  );
});

test('a cursor that claims more than its memory holds', () => {
  const packet = new Packet();
  packet.u8 = eth().ipv4().tcp(tcp).bytes().subarray(0, 50);
  packet.caplen = 1000;
  packet.wirelen = 1000;
  expect(new Decoder(true).decode(packet)).toBe(Decoded.short);
});
