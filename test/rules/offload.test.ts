import { describe, expect, it } from 'vitest';
import { compileFilterText } from '../../src/filter/index.ts';
import { flowSpec, sameSpec } from '../../src/rules/offload/flow-spec.ts';
import { headerMatches } from '../../src/rules/offload/header-match.ts';

const specs = (expression: string): Uint8Array[] => {
  const matches = headerMatches(compileFilterText(expression, 'tcpdump'));
  if (typeof matches === 'string') throw new Error(matches);
  return matches.map((match) => flowSpec(match) as Uint8Array);
};
const reason = (expression: string) => headerMatches(compileFilterText(expression, 'tcpdump'));

const union = (hex: string) => hex.replaceAll(' ', '').padEnd(104, '0');

/** struct ethtool_rx_flow_spec of linux/ethtool.h: flow_type, h_u (52), h_ext (20), m_u (52), m_ext (20), 4 of padding, cookie, location. */
function expected(type: string, header: string, mask: string): string {
  const none = '00'.repeat(20);
  return `${type}000000${union(header)}${none}${union(mask)}${none}00000000${'ff'.repeat(8)}${'00'.repeat(8)}`;
}
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

const V6 = '20010db8 00000000 00000000 00000007';

describe('expressions as rules of a NIC', () => {
  // ip4src, ip4dst, psrc, pdst, tos; ip6src[4], ip6dst[4], psrc, pdst, tclass
  it.each([
    [
      'dst host 192.0.2.7 and udp src port 123',
      [expected('02', '00000000 c0000207 007b 0000', '00000000 ffffffff ffff 0000')],
    ],
    ['src net 10.1.0.0/16 and tcp', [expected('01', '0a010000', 'ffff0000')]],
    [
      'sctp dst port 38412',
      [
        expected('07', `${'00'.repeat(32)} 0000 960c`, `${'00'.repeat(32)} 0000 ffff`),
        expected('03', '00000000 00000000 0000 960c', '00000000 00000000 0000 ffff'),
      ],
    ],
    [
      'ip6 src host 2001:db8::7 and tcp dst port 80',
      [
        expected(
          '05',
          `${V6} ${'00'.repeat(16)} 0000 0050`,
          `${'ff'.repeat(16)} ${'00'.repeat(16)} 0000 ffff`,
        ),
      ],
    ],
    ['ip6 src net 2001:db8::/32', [expected('0e', '20010db8', 'ffffffff')]],
    // ip4src, ip4dst, l4_4_bytes, tos, ip_ver = ETH_RX_NFC_IP4, proto
    [
      'ip host 10.0.0.1 and ip proto 47',
      [
        expected('0d', '0a000001 00000000 00000000 00 01 2f', 'ffffffff 00000000 00000000 00 00 ff'),
        expected('0d', '00000000 0a000001 00000000 00 01 2f', '00000000 ffffffff 00000000 00 00 ff'),
      ],
    ],
    // h_dest, h_source, h_proto
    ['arp', [expected('12', `${'00'.repeat(12)} 0806`, `${'00'.repeat(12)} ffff`)]],
    ['ip', [expected('12', `${'00'.repeat(12)} 0800`, `${'00'.repeat(12)} ffff`)]],
  ])('%s', (expression, wanted) => {
    expect(specs(expression).map(hex).toSorted()).toEqual(wanted.toSorted());
  });

  it('a port of any protocol is a rule for each protocol, IP version and direction', () => {
    const types = specs('port 53').map((spec) => spec[0]);
    expect(types.toSorted((a, b) => a - b)).toEqual([1, 1, 2, 2, 3, 3, 5, 5, 6, 6, 7, 7]);
  });

  it.each([
    ['udp src port 123 and greater 400', 'more than equalities'],
    ['dst host 192.0.2.7 and not udp', 'more than equalities'],
    ['tcp[tcpflags] == tcp-syn', 'which is no address, protocol or port'],
    ['udp and ip[6:2] & 0x1fff = 0', 'more than equalities'],
    ['host 10.0.0.1', 'EtherType 0x0806'],
    ['vlan 7 and udp', 'EtherType'],
    ['tcp portrange 1-1000', 'more than equalities'],
    ['ip[12:4] & 0xff = 3', 'not a prefix'],
    ['greater 1000', 'EtherType'],
    ['ether dst 02:00:00:00:00:01 and ip', 'no address, protocol or port'],
  ])('%s cannot be one', (expression, why) => {
    expect(reason(expression)).toEqual(expect.stringContaining(why) as string);
  });
});

describe('what a NIC gives back', () => {
  const [asked] = specs('src net 10.1.0.0/16 and udp dst port 53');
  const changed = (at: number): Uint8Array => {
    const given = asked.slice();
    given[at] ^= 1;
    return given;
  };

  it('may differ in bits that do not count, and in its place', () => {
    expect(sameSpec(asked, changed(7))).toBe(true);
    expect(sameSpec(asked, changed(160))).toBe(true);
  });

  it('is another rule when kind, field, mask or action differ', () => {
    for (const at of [0, 4, 15, 76, 79, 87, 152]) expect(sameSpec(asked, changed(at)), `${at}`).toBe(false);
  });
});
