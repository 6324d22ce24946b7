import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { eth, ipv4, ipv6, raw } from '../../src/packet/build.ts';
import { Decoded, Decoder, LinkType } from '../../src/packet/decode.ts';
import { packetOf } from '../flow/support/harness.ts';

const udp4 = ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp({ sport: 1000, dport: 2000 }).payload(20).bytes();
const udp6 = ipv6().udp({ sport: 1000, dport: 2000 }).payload(20).bytes();

const join = (...parts: (Uint8Array | readonly number[])[]) =>
  Uint8Array.from(parts.flatMap((part) => [...part]));
const zeros = (bytes: number) => new Uint8Array(bytes);
const SNAP = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
const wlan = (control: number, flags: number, rest: Uint8Array, more: readonly number[] = []) =>
  join([control, flags], zeros(22), more, rest);
const amsdu = (...bodies: Uint8Array[]) =>
  bodies.map((body, i) => {
    const frame = join(zeros(12), [body.length >>> 8, body.length & 255], body);
    return i === bodies.length - 1 ? frame : join(frame, zeros((4 - (frame.length & 3)) & 3));
  });

/** Every link type, with a frame that holds `udp4` or `udp6`. */
const frames: [
  name: string,
  linkType: number,
  frame: Uint8Array,
  more?: { vlan: number; innerVlan: number },
][] = [
  ['raw IPv4', LinkType.raw, udp4],
  ['raw IPv6', LinkType.rawOpenBsd, udp6],
  ['raw as files number it', LinkType.rawFile, udp6],
  ['IPv4', LinkType.ipv4, udp4],
  ['IPv6', LinkType.ipv6, udp6],
  ['loopback, little endian', LinkType.null, join([2, 0, 0, 0], udp4)],
  ['loopback, big endian', LinkType.null, join([0, 0, 0, 2], udp4)],
  ['loopback, IPv6 of macOS', LinkType.null, join([30, 0, 0, 0], udp6)],
  ['loopback of OpenBSD', LinkType.loop, join([0, 0, 0, 24], udp6)],
  ['Linux cooked', LinkType.sll, join(zeros(14), [8, 0], udp4)],
  [
    'Linux cooked with a tag',
    LinkType.sll,
    join(zeros(14), [0x81, 0, 0, 7, 0x86, 0xdd], udp6),
    { vlan: 7, innerVlan: 0 },
  ],
  ['Linux cooked with LLC', LinkType.sll, join(zeros(14), [0, 4], SNAP, udp4)],
  ['Linux cooked, version 2', LinkType.sll2, join([0x86, 0xdd], zeros(18), udp6)],
  ['PPP', LinkType.ppp, join([0, 0x21], udp4)],
  ['PPP with HDLC framing', LinkType.ppp, join([0xff, 3, 0, 0x57], udp6)],
  ['PPP with MPLS', LinkType.ppp, join([2, 0x81, 0, 1, 0x41, 64], udp4)],
  ['PPP over a serial line', LinkType.pppSerial, join([0x0f, 0, 0, 0x21], udp4)],
  ['PPPoE without Ethernet', LinkType.pppEther, join([0x11, 0, 0, 1, 0, 50, 0, 0x21], udp4)],
  ['NFLOG', LinkType.nflog, join([2, 0, 0, 5], [5, 0, 10, 0, 65, 0, 0, 0], [52, 0, 9, 0], udp4)],
  ['FDDI', LinkType.fddi, join([0x50], zeros(12), SNAP, udp4)],
  ['802.11', LinkType.wlan, wlan(0x08, 0x01, join(SNAP, udp4))],
  ['802.11 with four addresses', LinkType.wlan, wlan(0x08, 0x03, join(zeros(6), SNAP, udp4))],
  ['802.11 with QoS', LinkType.wlan, wlan(0x88, 0x02, join(SNAP, udp4), [0, 0])],
  ['802.11 with QoS and HT control', LinkType.wlan, wlan(0x88, 0x82, join(SNAP, udp4), [0, 0, 0, 0, 0, 0])],
  ['radiotap', LinkType.radiotap, join([0, 0, 10, 0], zeros(6), wlan(0x08, 0x01, join(SNAP, udp4)))],
  ['Prism', LinkType.prism, join(zeros(144), wlan(0x08, 0x01, join(SNAP, udp4)))],
  [
    'AVS',
    LinkType.avs,
    join([0x80, 0x21, 0x10, 1, 0, 0, 0, 64], zeros(56), wlan(0x08, 0x01, join(SNAP, udp4))),
  ],
  [
    'AVS as Prism',
    LinkType.prism,
    join([0x80, 0x21, 0x10, 1, 0, 0, 0, 64], zeros(56), wlan(0x08, 1, join(SNAP, udp4))),
  ],
  [
    'MPLS',
    LinkType.ethernet,
    eth().mpls(5).mpls(6).ipv4().udp({ sport: 1000, dport: 2000 }).payload(20).bytes(),
  ],
  [
    'MPLS multicast',
    LinkType.ethernet,
    eth({ type: 0x8848 })
      .payload(join([0, 1, 0x41, 64], udp4))
      .bytes(),
  ],
  [
    'PPPoE',
    LinkType.ethernet,
    eth().vlan(3).pppoe().ipv6().udp({ sport: 1000, dport: 2000 }).payload(20).bytes(),
    { vlan: 3, innerVlan: 0 },
  ],
  [
    'PBB',
    LinkType.ethernet,
    join(eth({ type: 0x88e7 }).payload(4).bytes(), eth().vlan(9).bytes().subarray(0, 16), [8, 0], udp4),
    { vlan: 9, innerVlan: 0 },
  ],
  [
    'VN-tag',
    LinkType.ethernet,
    eth({ type: 0x8926 })
      .payload(join([0, 0, 0, 0, 8, 0], udp4))
      .bytes(),
  ],
  [
    'VN-tag, then a VLAN',
    LinkType.ethernet,
    eth({ type: 0x8926 })
      .payload(join([0, 0, 0, 0, 0x81, 0, 0x20, 5, 8, 0], udp4))
      .bytes(),
    { vlan: 5, innerVlan: 0 },
  ],
  ['LLC and SNAP', LinkType.ethernet, eth({ type: 60 }).payload(join(SNAP, udp4)).bytes()],
  [
    'LLC and SNAP behind a tag',
    LinkType.ethernet,
    eth().vlan(4, { type: 60 }).payload(join(SNAP, udp4)).bytes(),
    { vlan: 4, innerVlan: 0 },
  ],
  [
    'FabricPath',
    LinkType.ethernet,
    eth({ type: 0x8903 })
      .payload(join([0, 1], eth().ipv4().udp({ sport: 1000, dport: 2000 }).payload(20).bytes()))
      .bytes(),
  ],
];

describe('link types', () => {
  test.each(frames)('%s', (_name, linkType, frame, vlans = { vlan: 0, innerVlan: 0 }) => {
    const decoder = new Decoder(true);
    const packet = packetOf(frame, 0, { linkType });
    expect(decoder.decode(packet)).toBe(Decoded.ok);
    expect(decoder.checksumHolds(packet)).toBe(true);
    expect(decoder).toMatchObject({
      protocol: 17,
      sourcePort: 1000,
      destinationPort: 2000,
      transportBytes: 28,
      ...vlans,
    });
  });

  test.each(frames)('%s, cut at every length', (_name, linkType, frame) => {
    const decoder = new Decoder(true);
    for (let length = 0; length < frame.length - 20; length++) {
      const verdict = decoder.decode(
        packetOf(frame.subarray(0, length), 0, { linkType, wirelen: frame.length }),
      );
      // Cut off headers may look like something else, but never like the packet.
      expect(verdict, `${length} bytes`).not.toBe(Decoded.ok);
    }
  });

  test('a tag that the NIC took out counts on any link', () => {
    const decoder = new Decoder(true);
    decoder.decode(packetOf(udp4, 0, { linkType: LinkType.raw, vlanTci: 0x2009 }));
    expect(decoder.vlan).toBe(9);
  });
});

describe('what holds no packet', () => {
  const none: [string, number, Uint8Array, Decoded][] = [
    ['an unknown link type', 147, udp4, Decoded.linkType],
    ['an unknown address family', LinkType.null, join([7, 0, 0, 0], udp4), Decoded.notIp],
    ['an 802.11 beacon', LinkType.wlan, wlan(0x80, 0, udp4), Decoded.notIp],
    ['802.11 without data', LinkType.wlan, wlan(0x48, 1, udp4), Decoded.notIp],
    ['802.11 encrypted', LinkType.wlan, wlan(0x08, 0x41, join(SNAP, udp4)), Decoded.notIp],
    ['NFLOG with an attribute of no length', LinkType.nflog, join([2, 0, 0, 5], zeros(60)), Decoded.notIp],
    ['NFLOG without a packet', LinkType.nflog, join([2, 0, 0, 5], [5, 0, 10, 0, 65, 0, 0, 0]), Decoded.short],
    ['PPP LCP', LinkType.ppp, join([0xc0, 0x21], udp4), Decoded.notIp],
    [
      'LLC without SNAP',
      LinkType.ethernet,
      eth({ type: 60 })
        .payload(join([0x42, 0x42, 3], zeros(57)))
        .bytes(),
      Decoded.notIp,
    ],
    [
      'SNAP of an organisation',
      LinkType.ethernet,
      eth({ type: 60 })
        .payload(join([0xaa, 0xaa, 3, 0, 0, 12, 8, 0], udp4))
        .bytes(),
      Decoded.notIp,
    ],
    [
      'a radiotap length beyond the frame',
      LinkType.radiotap,
      join([0, 0, 255, 255], zeros(60)),
      Decoded.short,
    ],
    [
      'an endless label stack',
      LinkType.ethernet,
      eth({ type: 0x8847 }).payload(zeros(600)).bytes(),
      Decoded.short,
    ],
    [
      'VN-tags without end',
      LinkType.ethernet,
      eth({ type: 0x8926 })
        .payload(join(...Array.from({ length: 60 }, () => [0, 0, 0, 0, 0x89, 0x26])))
        .bytes(),
      Decoded.notIp,
    ],
    [
      'five tags, others in between',
      LinkType.ethernet,
      eth({ type: 0x8926 })
        .payload(join(...Array.from({ length: 5 }, () => [0, 0, 0, 0, 0x81, 0, 0, 1, 0x89, 0x26])))
        .bytes(),
      Decoded.tags,
    ],
  ];
  test.each(none)('%s', (_name, linkType, frame, verdict) => {
    expect(new Decoder(true).decode(packetOf(frame, 0, { linkType }))).toBe(verdict);
  });
});

test('an 802.11 aggregate says where its subframes lie', () => {
  const body = join(...amsdu(join(SNAP, udp4), join(SNAP, udp4)));
  const decoder = new Decoder(true);
  const packet = packetOf(wlan(0x88, 0x02, body, [0x80, 0]), 0, { linkType: LinkType.wlan });
  expect(decoder.decode(packet)).toBe(Decoded.aggregate);
  expect([decoder.transport - packet.offset, decoder.transportBytes]).toEqual([26, body.length]);
});

test('no bytes make any link type throw, and what is found lies inside of the frame', () => {
  const types = [...new Set([...Object.values(LinkType), 147, 2, -2])];
  const decoder = new Decoder(false);
  const check = (linkType: number, bytes: Uint8Array, wirelen: number) => {
    const packet = packetOf(bytes, 0, { linkType, wirelen });
    const verdict = decoder.decode(packet);
    const end = packet.offset + packet.caplen;
    if (verdict === Decoded.aggregate) {
      expect(decoder.transport + decoder.transportBytes).toBeLessThanOrEqual(
        Math.max(end, decoder.transport),
      );
      return;
    }
    if (verdict !== Decoded.ok && verdict !== Decoded.fragment) return;
    if (verdict === Decoded.ok) decoder.checksumHolds(packet);
    expect(decoder.transport + decoder.captured).toBeLessThanOrEqual(end);
    expect(decoder.destination + (decoder.family === 4 ? 4 : 16)).toBeLessThanOrEqual(end);
  };
  fc.assert(
    fc.property(
      fc.constantFrom(...types),
      fc.uint8Array({ maxLength: 200 }),
      fc.nat(100),
      (linkType, bytes, extra) => check(linkType, bytes, bytes.length + extra),
    ),
    { numRuns: 5000 },
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...frames),
      fc.array(fc.tuple(fc.nat(100), fc.nat(255)), { maxLength: 5 }),
      fc.nat(300),
      (frame, changes, cut) => {
        const bytes = frame[2].slice();
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        check(frame[1], bytes.subarray(0, Math.min(cut, bytes.length)), bytes.length);
      },
    ),
    { numRuns: 5000 },
  );
  for (const [, linkType, frame] of frames)
    for (let length = 0; length <= frame.length; length++)
      check(linkType, frame.subarray(0, length), frame.length);
  check(LinkType.raw, raw(udp4).bytes(), udp4.length);
});
