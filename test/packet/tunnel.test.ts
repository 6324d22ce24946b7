import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { eth, ipv4, ipv6, raw } from '../../src/packet/build.ts';
import { LinkType } from '../../src/packet/decode.ts';
import { ayiya, looksLikeAyiya } from '../../src/packet/tunnel/ayiya.ts';
import { geneve } from '../../src/packet/tunnel/geneve.ts';
import { gre, wholeIp } from '../../src/packet/tunnel/gre.ts';
import { gtp } from '../../src/packet/tunnel/gtp.ts';
import { Inside, TunnelPayload } from '../../src/packet/tunnel/payload.ts';
import { looksLikeTeredo, teredo } from '../../src/packet/tunnel/teredo.ts';
import { vxlan } from '../../src/packet/tunnel/vxlan.ts';

const udp4 = ipv4().udp().payload(20).bytes();
const udp6 = ipv6({ src: '2001:0:1:2::3' }).udp().payload(20).bytes();
const bubble = ipv6({ src: '2001:0:1:2::3', nextHeader: 59 }).bytes();
const frame = eth().ipv4().udp().payload(20).bytes();
const join = (...parts: (Uint8Array | readonly number[])[]) =>
  Uint8Array.from(parts.flatMap((part) => [...part]));
const zeros = (bytes: number) => new Uint8Array(bytes);

const parsers = { vxlan, geneve, gtp, teredo, ayiya, gre };
type Name = keyof typeof parsers;

function parse(name: Name, bytes: Uint8Array) {
  // Not at the begin of its memory, and with more behind it.
  const memory = join(zeros(5), bytes, zeros(50));
  const out = new TunnelPayload();
  const inside = parsers[name](memory, 5, 5 + bytes.length, out);
  return {
    inside,
    confirmed: out.confirmed,
    vni: out.vni,
    linkType: out.linkType,
    inner: memory.slice(out.at, out.at + out.bytes),
  };
}

const ppp = (protocol: number, inner: Uint8Array) =>
  join([0x30, 0x81, 0x88, 0x0b, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xff, 3, 0, protocol], inner);
const gtpHeader = (flags: number, type: number) => [flags, type, 0, 0, 0, 0, 0, 9];
const AUTH = [0, 1, 3, 2, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const ORIGIN = [0, 0, 1, 2, 3, 4, 5, 6];

const good: [string, Name, Uint8Array, Uint8Array, number, number?][] = [
  [
    'VXLAN',
    'vxlan',
    raw(zeros(0)).vxlan({ vni: 0x123456 }).eth().ipv4().udp().payload(20).bytes(),
    frame,
    LinkType.ethernet,
    0x123456,
  ],
  [
    'GENEVE with Ethernet',
    'geneve',
    raw(zeros(0)).geneve({ vni: 77 }).eth().ipv4().udp().payload(20).bytes(),
    frame,
    LinkType.ethernet,
    77,
  ],
  [
    'GENEVE with options and IPv6',
    'geneve',
    raw(zeros(0))
      .geneve({
        vni: 1,
        protocol: 0x86dd,
        options: [
          { class: 0x108, type: 1, data: zeros(8) },
          { class: 1, type: 0x82, data: zeros(0) },
        ],
      })
      .payload(udp6)
      .bytes(),
    udp6,
    LinkType.raw,
    1,
  ],
  ['GTP', 'gtp', join(gtpHeader(0x30, 255), udp4), udp4, LinkType.raw],
  ['GTP with a sequence number', 'gtp', join(gtpHeader(0x32, 255), [0, 1, 0, 0], udp6), udp6, LinkType.raw],
  [
    'GTP with extension headers',
    'gtp',
    join(gtpHeader(0x34, 255), [0, 1, 0, 0x85], [1, 9, 9, 0x40], [2, 1, 2, 3, 4, 5, 6, 0], udp4),
    udp4,
    LinkType.raw,
  ],
  [
    'GTP with the extension flag and none',
    'gtp',
    join(gtpHeader(0x34, 255), [0, 1, 0, 0], udp4),
    udp4,
    LinkType.raw,
  ],
  ['Teredo', 'teredo', udp6, udp6, LinkType.raw],
  ['Teredo with authentication', 'teredo', join(AUTH, udp6), udp6, LinkType.raw],
  ['Teredo with authentication and origin', 'teredo', join(AUTH, ORIGIN, udp6), udp6, LinkType.raw],
  ['Teredo bubble', 'teredo', join(ORIGIN, bubble), bubble, LinkType.raw],
  ['Teredo bubble with payload', 'teredo', join(bubble, [1, 2, 3]), join(bubble, [1, 2, 3]), LinkType.raw],
  ['AYIYA', 'ayiya', join([0x44, 0x52, 0x11, 41, 0, 0, 0, 0], zeros(16 + 20), udp6), udp6, LinkType.raw],
  ['AYIYA with IPv4', 'ayiya', join([0x00, 0x02, 0x01, 4, 0, 0, 0, 0], zeros(1), udp4), udp4, LinkType.raw],
  ['GRE', 'gre', raw(zeros(0)).gre().ipv4().udp().payload(20).bytes(), udp4, LinkType.raw],
  [
    'GRE with checksum, key and sequence',
    'gre',
    raw(zeros(0)).gre({ checksum: true, key: 5, seq: 9 }).ipv4().udp().payload(20).bytes(),
    udp4,
    LinkType.raw,
  ],
  [
    'GRE with Ethernet',
    'gre',
    raw(zeros(0)).gre({ protocol: 0x6558 }).payload(frame).bytes(),
    frame,
    LinkType.ethernet,
  ],
  [
    'ERSPAN I',
    'gre',
    raw(zeros(0)).gre({ protocol: 0x88be }).payload(frame).bytes(),
    frame,
    LinkType.ethernet,
  ],
  [
    'ERSPAN II',
    'gre',
    raw(zeros(0))
      .gre({ protocol: 0x88be, seq: 1 })
      .payload(join([0x10, 1], zeros(6), frame))
      .bytes(),
    frame,
    LinkType.ethernet,
  ],
  [
    'ERSPAN III',
    'gre',
    raw(zeros(0))
      .gre({ protocol: 0x22eb, seq: 1 })
      .payload(join([0x20], zeros(11), frame))
      .bytes(),
    frame,
    LinkType.ethernet,
  ],
  [
    'ERSPAN III with its optional header',
    'gre',
    raw(zeros(0))
      .gre({ protocol: 0x22eb, seq: 1 })
      .payload(join([0x20], zeros(10), [1], zeros(8), frame))
      .bytes(),
    frame,
    LinkType.ethernet,
  ],
  [
    'GRE with 802.11',
    'gre',
    raw(zeros(0)).gre({ protocol: 0x8200 }).payload(frame).bytes(),
    frame,
    LinkType.wlan,
  ],
  ['PPTP with IPv4', 'gre', ppp(0x21, udp4), udp4, LinkType.raw],
  ['PPTP with IPv6', 'gre', ppp(0x57, udp6), udp6, LinkType.raw],
];

const seen = (bytes: Uint8Array) => [
  looksLikeTeredo(bytes, 0, bytes.length),
  looksLikeAyiya(bytes, 0, bytes.length),
];

describe('what lies inside', () => {
  test.each(good)('%s', (_name, parser, bytes, inner, linkType, vni) => {
    const result = parse(parser, bytes);
    expect(result.inside).toBe(Inside.packet);
    expect(result.linkType).toBe(linkType);
    expect(Buffer.from(result.inner)).toEqual(Buffer.from(inner));
    if (vni !== undefined) expect(result.vni).toBe(vni);
    expect(result.confirmed).toBe(parser !== 'gre');
  });
});

describe('what does not', () => {
  const bad: [string, Name, Uint8Array, number][] = [
    ['VXLAN without its flag', 'vxlan', join(zeros(8), frame), Inside.violation],
    ['VXLAN cut off', 'vxlan', Uint8Array.of(8, 0, 0, 0, 0), Inside.violation],
    ['VXLAN with nothing', 'vxlan', Uint8Array.of(8, 0, 0, 0, 0, 0, 1, 0), Inside.nothing],
    ['GENEVE of another version', 'geneve', join([0x40], zeros(7), frame), Inside.nothing],
    [
      'GENEVE with options beyond its end',
      'geneve',
      join([0x3f, 0, 0x65, 0x58], zeros(30)),
      Inside.violation,
    ],
    ['GENEVE with ARP', 'geneve', join([0, 0, 8, 6], zeros(40)), Inside.nothing],
    ['GTP version 2', 'gtp', join([0x48, 255], zeros(40)), Inside.violation],
    ["GTP'", 'gtp', join([0x2e, 255], zeros(40)), Inside.nothing],
    ['GTP echo', 'gtp', join([0x32, 1], zeros(40)), Inside.nothing],
    ['GTP around what is no IP', 'gtp', join(gtpHeader(0x30, 255), zeros(40)), Inside.violation],
    ['GTP with more than the packet', 'gtp', join(gtpHeader(0x30, 255), udp4, [0]), Inside.violation],
    [
      'GTP with an extension of no length',
      'gtp',
      join(gtpHeader(0x34, 255), [0, 0, 0, 1, 0, 0, 0, 1], udp4),
      Inside.violation,
    ],
    ['Teredo with a wrong length', 'teredo', udp6.subarray(0, 60), Inside.violation],
    ['Teredo with two origins', 'teredo', join(ORIGIN, ORIGIN, udp6), Inside.violation],
    ['AYIYA of another operation', 'ayiya', join([0x44, 0x52, 0x10, 41], zeros(100)), Inside.nothing],
    ['AYIYA cut off', 'ayiya', Uint8Array.of(0x44, 0x52, 0x11, 41, 0, 0, 0, 0), Inside.violation],
    ['AYIYA with another protocol', 'ayiya', join([0x44, 0x52, 0x11, 6], zeros(100)), Inside.nothing],
    ['GRE version 2', 'gre', join([0, 2, 8, 0], udp4), Inside.nothing],
    ['GRE with routing', 'gre', join([0x40, 0, 8, 0], udp4), Inside.nothing],
    ['GRE with reserved flags', 'gre', join([0, 8, 8, 0], udp4), Inside.nothing],
    ['GRE with a keepalive', 'gre', join([0, 0, 0, 0]), Inside.nothing],
    ['ERSPAN with less than a frame', 'gre', join([0, 0, 0x88, 0xbe], zeros(14)), Inside.nothing],
    [
      'PPTP with LCP',
      'gre',
      join([0x30, 1, 0x88, 0x0b], zeros(8), [0xff, 3, 0xc0, 0x21], zeros(30)),
      Inside.nothing,
    ],
    ['PPTP around a packet of another length', 'gre', ppp(0x21, join(udp4, [0])), Inside.nothing],
  ];
  test.each(bad)('%s', (_name, parser, bytes, inside) => {
    expect(parse(parser, bytes).inside).toBe(inside);
  });

  test('IP in IP has to be of the version that was said, and as long', () => {
    const out = new TunnelPayload();
    expect(wholeIp(udp4, 0, udp4.length, 4, out)).toBe(Inside.packet);
    expect(wholeIp(udp4, 0, udp4.length, 6, out)).toBe(Inside.nothing);
    expect(wholeIp(udp4, 0, udp4.length - 1, 4, out)).toBe(Inside.nothing);
  });
});

test('Teredo and AYIYA are told by their content', () => {
  expect(seen(udp6)).toEqual([true, false]);
  expect(seen(ipv6({ dst: '2001::1' }).udp().bytes())).toEqual([true, false]);
  expect(seen(ipv6({ src: '2001:db8::1', dst: '2001:db8::2' }).udp().bytes())).toEqual([false, false]);
  expect(seen(join(AUTH, ORIGIN, ipv6().udp().bytes()))).toEqual([true, false]);
  expect(seen(join(ORIGIN, udp4))).toEqual([false, false]);
  expect(seen(join([0x44, 0x52, 0x11, 41], zeros(60)))).toEqual([false, true]);
  expect(seen(zeros(2))).toEqual([false, false]);
});

test('no bytes make a parser throw, and what is inside lies inside', () => {
  const check = (name: Name, bytes: Uint8Array) => {
    const out = new TunnelPayload();
    const inside = parsers[name](bytes, 0, bytes.length, out);
    looksLikeTeredo(bytes, 0, bytes.length);
    looksLikeAyiya(bytes, 0, bytes.length);
    if (inside !== Inside.packet) return;
    expect(out.at).toBeGreaterThanOrEqual(0);
    expect(out.bytes).toBeGreaterThan(0);
    expect(out.at + out.bytes).toBe(bytes.length);
  };
  const names = Object.keys(parsers) as Name[];
  fc.assert(fc.property(fc.constantFrom(...names), fc.uint8Array({ maxLength: 120 }), check), {
    numRuns: 5000,
  });
  fc.assert(
    fc.property(
      fc.constantFrom(...good),
      fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 5 }),
      ([, name, seed], changes) => {
        const bytes = seed.slice();
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        check(name, bytes);
      },
    ),
    { numRuns: 5000 },
  );
  for (const [, name, bytes] of good)
    for (let length = 0; length <= bytes.length; length++) check(name, bytes.subarray(0, length));
});
