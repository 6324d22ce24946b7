import * as fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import { eth, ipv4, ipv6, type PacketBuilder, raw } from '../../src/packet/build.ts';
import {
  attachmentText,
  DECAP_REASON_NAMES,
  DecapReason,
  Decapsulator,
  defaultPort,
  type EncapKind,
  encapsulationOf,
  endpointText,
  GwlbMetadata,
  parseEncap,
} from '../../src/packet/encap/index.ts';
import { LinkType } from '../../src/packet/link/types.ts';
import { Packet, Tunnelled } from '../../src/packet/packet.ts';

const NOTHING = raw(new Uint8Array(0));
const FRAME = eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).tcp().payload(20).bytes();
const IP = ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp().payload(20).bytes();
const BEFORE = 5;

/** A cursor over a datagram's payload that does not begin at the start of its memory, which goes on behind it. */
function shown(payload: Uint8Array, caplen = payload.length): Packet {
  const packet = new Packet();
  packet.u8 = new Uint8Array(BEFORE + payload.length + 40).fill(0x45);
  packet.u8.set(payload, BEFORE);
  packet.offset = BEFORE;
  packet.caplen = caplen;
  packet.wirelen = payload.length;
  packet.vlanTci = 9;
  return packet;
}

const bytesOf = (builder: PacketBuilder | Uint8Array) =>
  builder instanceof Uint8Array ? builder : builder.bytes();

/** What became of one datagram: the frame that the cursor shows, or the reason. */
function opened(name: string, payload: PacketBuilder | Uint8Array, caplen?: number) {
  const decapsulator = new Decapsulator(encapsulationOf(...(name.split(',') as [string])));
  const packet = shown(bytesOf(payload), caplen);
  const ok = decapsulator.open(packet);
  const reason = decapsulator.counts.findIndex((count) => count > 0);
  expect(decapsulator.counts.reduce((a, b) => a + b)).toBe(1);
  expect(ok).toBe(reason === DecapReason.frame);
  if (!ok) {
    expect([packet.offset, packet.linkType, packet.vni, packet.tunnel]).toEqual([BEFORE, 1, -1, 0]);
    return DECAP_REASON_NAMES[reason];
  }
  expect(packet.vlanTci).toBe(-1);
  return packet;
}

function frame(name: string, payload: PacketBuilder | Uint8Array, caplen?: number): Packet {
  const result = opened(name, payload, caplen);
  if (typeof result === 'string' || result === undefined) throw new Error(`no frame: ${result}`);
  return result;
}

const content = ({ u8, offset, caplen }: Packet) => u8.subarray(offset, offset + caplen);

const GWLB = [
  { class: 0x0108, type: 1, data: Uint8Array.of(0x0a, 1, 2, 3, 4, 5, 6, 7) },
  { class: 0x0108, type: 2, data: Uint8Array.of(0x1a, 1, 2, 3, 4, 5, 6, 8) },
  { class: 0x0108, type: 3, data: Uint8Array.of(0xde, 0xad, 0xbe, 0xef) },
];

/** AWS Traffic Mirroring through a Gateway Load Balancer. */
const doubled = (between: PacketBuilder) =>
  NOTHING.geneve({
    vni: 3,
    protocol: between.bytes()[0] >>> 4 === 4 ? 0x0800 : 0x86dd,
    options: GWLB,
  }).payload(between.bytes());
const vxlanOver = (ip: PacketBuilder) =>
  ip.udp({ sport: 65_000, dport: 4789 }).vxlan({ vni: 77 }).payload(FRAME);

describe('what holds a frame', () => {
  it.each<[string, string, PacketBuilder, Uint8Array, Partial<Packet>]>([
    [
      'VXLAN',
      'vxlan',
      NOTHING.vxlan({ vni: 0x123456 }).payload(FRAME),
      FRAME,
      { vni: 0x123456, tunnel: Tunnelled.vxlan, linkType: LinkType.ethernet, outerVni: -1 },
    ],
    [
      'VXLAN with bits set that a receiver ignores',
      'vxlan',
      NOTHING.vxlan({ vni: 5, flags: 0xff }).payload(FRAME),
      FRAME,
      { vni: 5 },
    ],
    [
      'VXLAN 0',
      'vxlan',
      NOTHING.vxlan({ vni: 0 }).payload(FRAME),
      FRAME,
      { vni: 0, tunnel: Tunnelled.vxlan },
    ],
    [
      'VXLAN around another link type, by option',
      'vxlan,raw',
      NOTHING.vxlan({ vni: 5 }).payload(IP),
      IP,
      { linkType: LinkType.raw },
    ],
    [
      'GENEVE around Ethernet',
      'geneve',
      NOTHING.geneve({ vni: 9, protocol: 0x6558 }).payload(FRAME),
      FRAME,
      { vni: 9, tunnel: Tunnelled.geneve, linkType: LinkType.ethernet, optionsBytes: 0, outerVni: -1 },
    ],
    [
      'GENEVE around IPv4, with options',
      'geneve',
      NOTHING.geneve({ vni: 0, protocol: 0x0800, options: GWLB }).payload(IP),
      IP,
      { vni: 0, tunnel: Tunnelled.geneve, linkType: LinkType.raw, optionsBytes: 32, optionsAt: BEFORE + 8 },
    ],
    [
      'GENEVE around IPv6',
      'geneve',
      NOTHING.geneve({ protocol: 0x86dd }).payload(IP),
      IP,
      { linkType: LinkType.raw },
    ],
    [
      'GENEVE around PPP',
      'geneve',
      NOTHING.geneve({ protocol: 0x880b }).payload(IP),
      IP,
      { linkType: LinkType.ppp },
    ],
    [
      'GENEVE around something unknown, by option',
      'geneve,raw',
      NOTHING.geneve({ protocol: 0 }).payload(IP),
      IP,
      { linkType: LinkType.raw },
    ],
    [
      'GENEVE whose header says what the option does not',
      'geneve,raw',
      NOTHING.geneve({ protocol: 0x6558 }).payload(FRAME),
      FRAME,
      { linkType: LinkType.ethernet },
    ],
    [
      'GENEVE with the C bit and no critical option',
      'geneve',
      NOTHING.geneve({ protocol: 0x0800, critical: true, options: GWLB }).payload(IP),
      IP,
      {},
    ],
    [
      'GENEVE with a critical option and no C bit',
      'geneve',
      NOTHING.geneve({
        protocol: 0x0800,
        options: [{ class: 1, type: 0x81, data: Uint8Array.of(1) }],
      }).payload(IP),
      IP,
      {},
    ],
    [
      'GENEVE+VXLAN over IPv4',
      'geneve+vxlan',
      doubled(vxlanOver(ipv4({ options: Uint8Array.of(1, 1, 1, 0) }))),
      FRAME,
      { vni: 77, outerVni: 3, tunnel: Tunnelled.vxlan, linkType: LinkType.ethernet, optionsBytes: 32 },
    ],
    ['GENEVE+VXLAN over IPv6', 'geneve+vxlan', doubled(vxlanOver(ipv6())), FRAME, { vni: 77, outerVni: 3 }],
    [
      'GENEVE+VXLAN over IPv6 with extension headers',
      'geneve+vxlan',
      doubled(vxlanOver(ipv6().hopByHop().destination())),
      FRAME,
      { vni: 77 },
    ],
    [
      'GENEVE+VXLAN with padding behind',
      'geneve+vxlan',
      doubled(vxlanOver(ipv4())).payload(6),
      FRAME,
      { vni: 77, wirelen: FRAME.length },
    ],
    ['nothing around the frame', 'raw', raw(FRAME), FRAME, { vni: -1, tunnel: Tunnelled.none, linkType: 1 }],
    ['a header to skip', 'skip=12', raw(new Uint8Array(12)).payload(FRAME), FRAME, { linkType: 1 }],
    [
      'PPP behind four bytes',
      'skip=4,ppp',
      raw(new Uint8Array(4)).payload(IP),
      IP,
      { linkType: LinkType.ppp },
    ],
  ])('%s', (_, name, payload, inside, fields) => {
    const packet = frame(name, payload);
    expect(Buffer.from(content(packet)).equals(inside)).toBe(true);
    expect(packet).toMatchObject({ wirelen: inside.length, ...fields });
  });

  test('bytes are skipped before a header too', () => {
    const decapsulator = new Decapsulator(encapsulationOf('vxlan', undefined, '3'));
    const packet = shown(raw(new Uint8Array(3)).vxlan({ vni: 8 }).payload(FRAME).bytes());
    expect(decapsulator.open(packet)).toBe(true);
    expect(packet).toMatchObject({ vni: 8, caplen: FRAME.length });
  });

  test('a datagram that was cut: the frame is as long as it was sent', () => {
    for (const [name, payload] of [
      ['vxlan', NOTHING.vxlan().payload(FRAME)],
      ['geneve', NOTHING.geneve({ protocol: 0x6558 }).payload(FRAME)],
      ['geneve+vxlan', doubled(vxlanOver(ipv4()))],
    ] as const) {
      const whole = payload.bytes();
      const packet = frame(name, whole, whole.length - 30);
      expect(packet).toMatchObject({ wirelen: FRAME.length, caplen: FRAME.length - 30 });
    }
  });

  test('nothing is left of the frame before', () => {
    const decapsulator = new Decapsulator(encapsulationOf('geneve'));
    const packet = shown(NOTHING.geneve({ vni: 4, protocol: 0x0800, options: GWLB }).payload(IP).bytes());
    decapsulator.open(packet);
    const next = NOTHING.geneve({ vni: 5, protocol: 0x6558 }).payload(FRAME).bytes();
    Object.assign(packet, { u8: next, offset: 0, caplen: next.length, wirelen: next.length });
    expect(decapsulator.open(packet)).toBe(true);
    expect(packet).toMatchObject({ vni: 5, optionsAt: 8, optionsBytes: 0, linkType: LinkType.ethernet });
  });
});

describe('what holds none is counted by its reason', () => {
  const geneveWith = (optionBytes: number[], flags = 0) =>
    Uint8Array.of(optionBytes.length / 4, flags, 0x08, 0, 0, 0, 1, 0, ...optionBytes, ...IP);
  it.each<[string, string, PacketBuilder | Uint8Array, string]>([
    ['an empty datagram', 'vxlan', raw(new Uint8Array(0)), 'empty'],
    ['an empty datagram', 'geneve+vxlan', raw(new Uint8Array(0)), 'empty'],
    ['an empty datagram', 'raw', raw(new Uint8Array(0)), 'empty'],
    ['a header alone', 'vxlan', NOTHING.vxlan(), 'empty'],
    ['a header alone', 'geneve', NOTHING.geneve({ protocol: 0x6558 }), 'empty'],
    ['GENEVE with nothing inside', 'geneve+vxlan', NOTHING.geneve({ protocol: 0x0800 }), 'empty'],
    ['VXLAN with nothing inside', 'geneve+vxlan', doubled(ipv4().udp({ dport: 4789 }).vxlan()), 'empty'],
    ['as much as is skipped', 'skip=5', raw(new Uint8Array(5)), 'empty'],
    ['less than is skipped', 'skip=5', raw(new Uint8Array(4)), 'truncated'],
    ['seven bytes', 'vxlan', raw(Uint8Array.of(8, 0, 0, 0, 0, 0, 1)), 'truncated'],
    ['seven bytes', 'geneve', raw(Uint8Array.of(0, 0, 8, 0, 0, 0, 1)), 'truncated'],
    [
      'options that go on beyond',
      'geneve',
      raw(Uint8Array.of(2, 0, 8, 0, 0, 0, 1, 0, 1, 8, 1, 0)),
      'truncated',
    ],
    ['no I flag', 'vxlan', NOTHING.vxlan({ flags: 0xf7 }).payload(FRAME), 'flags'],
    [
      'no I flag inside',
      'geneve+vxlan',
      doubled(ipv4().udp({ dport: 4789 }).vxlan({ flags: 0 }).payload(9)),
      'flags',
    ],
    ['version 1', 'geneve', raw(Uint8Array.of(0x40, 0, 8, 0, 0, 0, 1, 0)).payload(IP), 'version'],
    ['the O bit', 'geneve', NOTHING.geneve({ oam: true, protocol: 0x0800 }).payload(IP), 'control'],
    [
      'a critical option',
      'geneve',
      NOTHING.geneve({
        critical: true,
        protocol: 0x0800,
        options: [...GWLB, { class: 1, type: 0x80, data: Uint8Array.of(1) }],
      }).payload(IP),
      'critical',
    ],
    ['an option too long', 'geneve', geneveWith([1, 8, 1, 2, 0, 0, 0, 0]), 'options'],
    ['an option too long', 'geneve', geneveWith([1, 8, 1, 0, 1, 8, 1, 0x1f]), 'options'],
    ['MPLS', 'geneve', NOTHING.geneve({ protocol: 0x8847 }).payload(IP), 'protocol'],
    ['Ethernet between', 'geneve+vxlan', NOTHING.geneve({ protocol: 0x6558 }).payload(FRAME), 'protocol'],
    ['TCP between', 'geneve+vxlan', doubled(ipv4().tcp({ dport: 4789 }).payload(40)), 'inner'],
    ['TCP over IPv6 between', 'geneve+vxlan', doubled(ipv6().tcp({ dport: 4789 }).payload(40)), 'inner'],
    ['another port', 'geneve+vxlan', doubled(ipv4().udp({ dport: 53 }).vxlan().payload(FRAME)), 'inner'],
    [
      'a UDP length beyond the packet',
      'geneve+vxlan',
      doubled(ipv4().udp({ dport: 4789, length: 9000 }).vxlan().payload(FRAME)),
      'inner',
    ],
    [
      'a UDP length without room for its header',
      'geneve+vxlan',
      doubled(ipv4().udp({ dport: 4789, length: 7 }).vxlan().payload(FRAME)),
      'inner',
    ],
    [
      'no IP header',
      'geneve+vxlan',
      NOTHING.geneve({ protocol: 0x0800 }).payload(new Uint8Array(40)),
      'inner',
    ],
    ['no IPv6 header', 'geneve+vxlan', NOTHING.geneve({ protocol: 0x86dd }).payload(IP).payload(20), 'inner'],
    [
      'IP that is too short',
      'geneve+vxlan',
      NOTHING.geneve({ protocol: 0x0800 }).payload(IP.subarray(0, 19)),
      'truncated',
    ],
    [
      'IP longer than the datagram',
      'geneve+vxlan',
      doubled(ipv4({ totalLength: 2000 }).udp({ dport: 4789 }).vxlan().payload(FRAME)),
      'inner',
    ],
    [
      'a first fragment between',
      'geneve+vxlan',
      doubled(
        ipv4({ fragment: { offset: 0, more: true } })
          .udp({ dport: 4789 })
          .vxlan()
          .payload(FRAME),
      ),
      'fragment',
    ],
    [
      'a fragment of IPv6 between',
      'geneve+vxlan',
      doubled(ipv6().fragment({ id: 1, offset: 0, more: true }).udp({ dport: 4789 }).vxlan().payload(FRAME)),
      'fragment',
    ],
  ])('%s (%s)', (_, name, payload, reason) => {
    expect(opened(name, payload)).toBe(reason);
  });

  test('a header that was cut off by the capture', () => {
    const whole = doubled(vxlanOver(ipv4())).bytes();
    const headers = whole.length - FRAME.length;
    for (let caplen = 0; caplen <= headers; caplen++)
      expect(opened('geneve+vxlan', whole, caplen)).toBe('truncated');
    expect(frame('geneve+vxlan', whole, headers + 1).caplen).toBe(1);
  });
});

describe('metadata of AWS Gateway Load Balancer', () => {
  test('is read from the options when somebody asks', () => {
    const metadata = new GwlbMetadata();
    expect(
      metadata.read(frame('geneve', NOTHING.geneve({ protocol: 0x0800, options: GWLB }).payload(IP))),
    ).toBe(true);
    expect(metadata.flowCookie).toBe(0xdeadbeef);
    expect(endpointText(metadata.endpointHigh, metadata.endpointLow)).toBe('vpce-00a01020304050607');
    expect(attachmentText(metadata.attachmentHigh, metadata.attachmentLow)).toBe('1a01020304050608');
  });

  test('is there through GENEVE+VXLAN too', () => {
    expect(new GwlbMetadata().read(frame('geneve+vxlan', doubled(vxlanOver(ipv4()))))).toBe(true);
  });

  it.each<[string, typeof GWLB]>([
    ['no options', []],
    ['one of the three missing', GWLB.slice(0, 2)],
    ['another class', GWLB.map((option) => ({ ...option, class: 0x0109 }))],
    ['another length', [...GWLB.slice(0, 2), { class: 0x0108, type: 3, data: new Uint8Array(8) }]],
  ])('is not there: %s', (_, options) => {
    const packet = frame('geneve', NOTHING.geneve({ protocol: 0x0800, options }).payload(IP));
    expect(new GwlbMetadata().read(packet)).toBe(false);
  });
});

describe('names of encapsulations', () => {
  it.each<[string, object]>([
    ['vxlan', { encapsulation: { kind: 'vxlan', skip: 0, linkType: 1 }, port: 4789 }],
    ['VXLAN', { encapsulation: { kind: 'vxlan', skip: 0, linkType: 1 }, port: 4789 }],
    ['geneve', { encapsulation: { kind: 'geneve', skip: 0, linkType: -1 }, port: 6081 }],
    ['geneve,dlt=raw', { encapsulation: { kind: 'geneve', skip: 0, linkType: 12 }, port: 6081 }],
    ['geneve+vxlan,port=9', { encapsulation: { kind: 'geneve+vxlan', skip: 0, linkType: 1 }, port: 9 }],
    ['raw,port=7,dlt=ppp,skip=3', { encapsulation: { kind: 'raw', skip: 3, linkType: 9 }, port: 7 }],
    ['skip=8,port=7', { encapsulation: { kind: 'raw', skip: 8, linkType: 1 }, port: 7 }],
  ])('%s', (text, expected) => {
    expect(parseEncap(text)).toEqual(expected);
  });

  it.each([
    ['', 'is no encapsulation'],
    ['gre', 'is no encapsulation'],
    ['vxlan,', 'is no option'],
    ['vxlan,ttl=3', 'is no option'],
    ['vxlan,port', 'is no option'],
    ['vxlan,port=0', 'is not a UDP port'],
    ['vxlan,port=65536', 'is not a UDP port'],
    ['vxlan,port=1e3', 'is not a UDP port'],
    ['vxlan,port=1,port=2', 'is given twice'],
    ['skip=1,skip=2,port=1', 'is given twice'],
    ['skip=-1,port=1', 'is not a number of bytes'],
    ['vxlan,skip=65508', 'is not a number of bytes'],
    ['vxlan,dlt=slip', 'is no link type'],
    ['vxlan,dlt=toString', 'is no link type'],
    ['raw', 'does not say which datagrams'],
  ])("'%s' is refused", (text, message) => {
    try {
      parseEncap(text);
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(SluiceError);
      expect(thrown).toMatchObject({ code: 'USAGE', message: expect.stringContaining(message) });
      expect((thrown as SluiceError).help).toBeTruthy();
      return;
    }
    expect.unreachable();
  });

  test('ports', () => {
    const ports = ['vxlan', 'geneve', 'geneve+vxlan', 'raw'].map((name) =>
      defaultPort(encapsulationOf(name)),
    );
    expect(ports).toEqual([4789, 6081, 6081, undefined]);
  });
});

const KINDS: readonly EncapKind[] = ['vxlan', 'geneve', 'geneve+vxlan', 'raw'];
/** Datagrams, and datagrams with a few bytes of them changed and cut off. */
const datagrams = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc
    .tuple(
      fc.constantFrom(
        NOTHING.vxlan().payload(FRAME).bytes(),
        NOTHING.geneve({ protocol: 0x0800, options: GWLB }).payload(IP).bytes(),
        doubled(vxlanOver(ipv4())).bytes(),
        doubled(vxlanOver(ipv6().hopByHop())).bytes(),
      ),
      fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 }),
      fc.nat(60),
    )
    .map(([bytes, changes, cut]) => {
      const out = bytes.slice(0, Math.max(0, bytes.length - cut));
      for (const [at, value] of changes) if (at < out.length) out[at] = value;
      return out;
    }),
);

test('whatever the bytes: no throw, a frame inside of the datagram, each datagram counted once', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...KINDS),
      fc.nat(30),
      datagrams,
      fc.nat(250),
      fc.nat(255),
      (kind, skip, payload, caplen, filler) => {
        const there = Math.min(caplen, payload.length);
        const results = [0x45, filler].map((around) => {
          const decapsulator = new Decapsulator({ kind, skip, linkType: kind === 'geneve' ? -1 : 1 });
          const packet = shown(payload, there);
          packet.u8.fill(around, BEFORE + there);
          const ok = decapsulator.open(packet);
          expect(decapsulator.counts.reduce((a, b) => a + b)).toBe(1);
          expect(decapsulator.counts[DecapReason.frame]).toBe(ok ? 1 : 0);
          if (ok) {
            expect(packet.offset).toBeGreaterThanOrEqual(BEFORE);
            expect(packet.caplen).toBeGreaterThan(0);
            expect(packet.wirelen).toBeGreaterThanOrEqual(packet.caplen);
            expect(packet.offset + packet.caplen).toBeLessThanOrEqual(BEFORE + there);
            expect(packet.offset + packet.wirelen).toBeLessThanOrEqual(BEFORE + payload.length);
            expect(packet.optionsAt + packet.optionsBytes).toBeLessThanOrEqual(packet.offset);
          }
          const { offset, caplen: bytes, vni, outerVni, linkType } = packet;
          return [...decapsulator.counts, offset, bytes, vni, outerVni, linkType];
        });
        // What stands behind what was captured does not matter.
        expect(results[0]).toEqual(results[1]);
      },
    ),
    { numRuns: 3000 },
  );
});
