import { readFileSync } from 'node:fs';
import { expect, describe as group, test } from 'vitest';
import { eth, ipv4, type PacketBuilder, pattern, raw } from '../../src/packet/build.ts';
import { checksum, crc32c, onesSum, pseudoSum } from '../../src/packet/checksum.ts';
import { describe } from '../../src/packet/describe.ts';

const scapy = JSON.parse(readFileSync(new URL('fixtures/scapy.json', import.meta.url), 'utf8')) as Record<
  string,
  string
>;

const D = 'the quick brown fox';
const I = { id: 7 };
const T = { sport: 40_000, dport: 443, seq: 0x12345678, ack: 0x9abcdef0, flags: 'A', window: 4000 };
const INNER = { src: '192.168.0.1', dst: '192.168.0.2', id: 1 };

const ours: Record<string, PacketBuilder> = {
  'tcp syn with options': eth()
    .ipv4(I)
    .tcp({
      dport: 443,
      seq: 1,
      flags: 'S',
      window: 64_240,
      options: [
        { mss: 1460 },
        { sackPermitted: true },
        { timestamps: [100, 0] },
        { nop: true },
        { windowScale: 7 },
      ],
    }),
  'tcp data': eth().ipv4(I).tcp(T).payload(D),
  'tcp all flags and urgent': eth()
    .ipv4(I)
    .tcp({ sport: 1, dport: 2, seq: 0xffffffff, ack: 1, flags: 'FSRPAUEC', window: 0, urgent: 5 }),
  'tcp sack': eth()
    .ipv4(I)
    .tcp({
      dport: 443,
      seq: 5,
      ack: 6,
      window: 1,
      options: [{ nop: true }, { nop: true }, { sack: [[1000, 2000]] }],
    }),
  'ipv4 options': eth()
    .ipv4({ ttl: 3, id: 9, tos: 0x28, dontFragment: true, options: Uint8Array.of(0x94, 4, 0, 0) })
    .tcp(T)
    .payload(D),
  'ipv4 first fragment': eth()
    .ipv4({ id: 99, protocol: 17, fragment: { offset: 0, more: true } })
    .payload('x'.repeat(16)),
  'ipv4 later fragment': eth()
    .ipv4({ id: 99, protocol: 17, fragment: { offset: 1480, more: false } })
    .payload('y'.repeat(9)),
  udp: eth().ipv4(I).udp().payload(D),
  'udp odd length': eth().ipv4(I).udp().payload('odd'),
  'udp without checksum': eth().ipv4(I).udp({ checksum: 0 }).payload(D),
  'icmp echo': eth().ipv4(I).icmp({ id: 0x55, seq: 3 }).payload(D),
  'icmp unreachable': eth().ipv4(I).icmp({ type: 3, code: 1, rest: 0 }).payload(D),
  vlan: eth().vlan(100, { prio: 5 }).ipv4(I).tcp(T).payload(D),
  qinq: eth().qinq(200, { prio: 1 }).vlan(100).ipv4(I).udp().payload(D),
  mpls: eth().mpls(1000, { tc: 3, ttl: 60 }).mpls(17, { ttl: 61 }).ipv4(I).tcp(T),
  pppoe: eth().pppoe({ session: 0x1234 }).ipv4(I).udp().payload(D),
  'ipv6 tcp': eth().ipv6({ hopLimit: 9, trafficClass: 0x28, flowLabel: 0xabcde }).tcp(T).payload(D),
  'ipv6 udp': eth().ipv6().udp().payload(D),
  'icmpv6 echo': eth().ipv6().icmpv6({ id: 7, seq: 8 }).payload('ping'),
  'ipv6 extension headers': eth().ipv6().hopByHop().destination().tcp(T).payload(D),
  'ipv6 routing': eth()
    .ipv6()
    .routing({ addresses: ['fd00::9', 'fd00::2'] })
    .udp()
    .payload(D),
  'ipv6 fragment': eth()
    .ipv6()
    .fragment({ offset: 0, more: true, id: 0xdeadbeef, nextHeader: 17 })
    .payload('z'.repeat(16)),
  'ipv6 ah': eth()
    .ipv6()
    .ah({ spi: 0x100, seq: 5, icv: new Uint8Array(12).fill(1) })
    .tcp(T)
    .payload(D),
  sctp: eth()
    .ipv4(I)
    .sctp({ tag: 0xcafe })
    .payload(Uint8Array.of(11, 0, 0, 4)),
  gre: eth().ipv4(I).gre().ipv4(INNER).udp().payload(D),
  'gre with key, sequence and checksum': eth()
    .ipv4(I)
    .gre({ key: 42, seq: 7, checksum: true })
    .ipv4(INNER)
    .tcp(T),
  vxlan: eth().ipv4(I).udp().vxlan({ vni: 5001 }).eth().ipv4(I).tcp(T).payload(D),
  geneve: eth().ipv4(I).udp().geneve({ vni: 77 }).eth().ipv6().udp().payload(D),
  'ipv4 in ipv6': eth().ipv6().ipv4(I).udp().payload(D),
  'ipv6 in ipv4': eth().ipv4(I).ipv6().tcp(T).payload(D),
};

group('the builder gives the bytes that scapy gives', () => {
  test('and knows every frame of the fixture', () => {
    expect(Object.keys(ours)).toEqual(Object.keys(scapy));
  });

  test.each(Object.entries(scapy))('%s', (name, hex) => {
    const bytes = ours[name].bytes();
    const expected = Buffer.from(hex, 'hex');
    expect(
      Buffer.from(bytes).toString('hex'),
      `ours:\n${describe(bytes)}\nscapy:\n${describe(expected)}`,
    ).toBe(hex);
  });
});

group('what the caller asks for is what is sent', () => {
  test('a given length or checksum is not touched', () => {
    const bytes = ipv4({ totalLength: 9999, checksum: 0x1234 }).udp({ length: 3, checksum: 0xbeef }).bytes();
    expect([bytes[2], bytes[3]]).toEqual([0x27, 0x0f]);
    expect([bytes[10], bytes[11]]).toEqual([0x12, 0x34]);
    expect([bytes[24], bytes[25], bytes[26], bytes[27]]).toEqual([0, 3, 0xbe, 0xef]);
  });

  test.each([
    ['ipv4', ipv4()],
    ['tcp', ipv4().tcp().payload(D)],
    ['udp', ipv4().udp().payload(D)],
    ['icmp', ipv4().icmp().payload(D)],
    ['sctp', ipv4().sctp()],
    ['gre', ipv4().gre({ checksum: true })],
  ])('badChecksum spoils the checksum of %s and nothing else', (name, builder) => {
    const good = builder.bytes();
    const bad = builder.badChecksum().bytes();
    const changed = [...good.keys()].filter((i) => good[i] !== bad[i]);
    expect(changed).toHaveLength(2);
    if (name !== 'sctp' && name !== 'gre') {
      expect(describe(good, 'ip')).not.toContain('BAD CHECKSUM');
      expect(describe(bad, 'ip')).toContain('BAD CHECKSUM');
    }
  });

  test('badChecksum refuses a header that has none', () => {
    expect(() => eth().badChecksum()).toThrow(TypeError);
  });

  test('a shared beginning stays as it is', () => {
    const base = eth().ipv4();
    const first = base.tcp().bytes();
    base.vlan(7).udp().payload(100);
    expect(base.tcp().bytes()).toEqual(first);
  });

  test('bytes never aliases what the caller handed in', () => {
    const mine = Uint8Array.of(1, 2, 3);
    raw(mine).bytes()[0] = 9;
    expect(mine[0]).toBe(1);
  });

  test('a UDP checksum that comes out as zero is sent as all ones', () => {
    const zero = ipv4().udp().payload(Uint8Array.of(0, 0)).bytes();
    const word = (zero[26] << 8) | zero[27];
    const bytes = ipv4()
      .udp()
      .payload(Uint8Array.of(word >>> 8, word & 0xff))
      .bytes();
    expect([bytes[26], bytes[27]]).toEqual([0xff, 0xff]);
  });
});

/** RFC 1071 section 4.1, in the plainest words. */
function plain(u8: Uint8Array): number {
  let sum = 0n;
  for (let i = 0; i < u8.length; i += 2) sum += BigInt((u8[i] << 8) | (u8[i + 1] ?? 0));
  while (sum >> 16n) sum = (sum & 0xffffn) + (sum >> 16n);
  return Number(sum);
}

group('checksums', () => {
  test('the example of RFC 1071', () => {
    expect(onesSum(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7), 0, 8)).toBe(0xddf2);
  });

  test('every length up to 70 at every alignment, in a view that does not begin at 0', () => {
    const all = new Uint8Array(new ArrayBuffer(200), 3, 190);
    for (let i = 0; i < all.length; i++) all[i] = (i * 167 + 13) & 0xff;
    for (let offset = 0; offset < 8; offset++) {
      for (let length = 0; length <= 70; length++) {
        expect(onesSum(all, offset, length)).toBe(plain(all.subarray(offset, offset + length)));
      }
    }
  });

  test('no overflow: 256 KiB and more of all ones, and of the pattern', () => {
    expect(onesSum(new Uint8Array(1_000_001).fill(0xff), 0, 1_000_000)).toBe(0xffff);
    const large = pattern(300_001);
    expect(onesSum(large, 1, 300_000)).toBe(plain(large.subarray(1)));
  });

  test('lengths beyond the array are clamped, not an error', () => {
    const u8 = Uint8Array.of(1, 2, 3, 4);
    expect(onesSum(u8, 2, 1000)).toBe(0x0304);
    expect(onesSum(u8, 9, 4)).toBe(0);
    expect(onesSum(u8, 0, -4, 0x1ffff)).toBe(1 + 0xffff - 0xffff);
  });

  test('the buffer may change between calls', () => {
    const a = Uint8Array.of(0x12, 0x34);
    const b = Uint8Array.of(0xab, 0xcd);
    expect([onesSum(a, 0, 2), onesSum(b, 0, 2), onesSum(a, 0, 2)]).toEqual([0x1234, 0xabcd, 0x1234]);
  });

  test('a filled-in header sums to all ones, with its pseudo header', () => {
    const bytes = ipv4().tcp().payload(101).bytes();
    expect(onesSum(bytes, 0, 20)).toBe(0xffff);
    expect(onesSum(bytes, 20, 121, pseudoSum(bytes, 12, 4, 6, 121))).toBe(0xffff);
    expect(checksum(bytes, 0, 20)).toBe(0);
  });

  test('CRC-32C of the check string', () => {
    expect(crc32c(new TextEncoder().encode('x123456789'), 1, 9)).toBe(0xe3069283);
  });
});

group('describe', () => {
  test('tells the layers', () => {
    const text = describe(
      eth()
        .vlan(9)
        .ipv4({ id: 3 })
        .udp()
        .vxlan({ vni: 12 })
        .eth()
        .ipv6()
        .tcp({ flags: 'SA', seq: 5 })
        .bytes(),
    );
    expect(text.split('\n').map((line) => line.split(' ')[0])).toEqual([
      'eth',
      'vlan',
      'ipv4',
      'udp',
      'vxlan',
      'eth',
      'ipv6',
      'tcp',
    ]);
    expect(text).toContain('seq 5');
    expect(text).toContain('vxlan vni 12');
  });

  test('reads every prefix of every frame without an error', () => {
    for (const hex of Object.values(scapy)) {
      const bytes = Buffer.from(hex, 'hex');
      for (let n = 0; n <= bytes.length; n++) expect(typeof describe(bytes.subarray(0, n))).toBe('string');
    }
  });
});
