import { IpProto } from '../packet/decode.ts';
import { Fragmented, type SampleColumns } from './columns.ts';
import { isDnsQuery, isDnsResponse } from './names.ts';

const SYN = 2;
const RST = 4;
const ACK = 16;

/** Services over UDP that answer with more than they were asked, by the port that the answers come from (US-CERT TA14-017A). */
export const REFLECTORS: readonly (readonly [name: string, port: number])[] = [
  ['dns', 53],
  ['ntp', 123],
  ['memcached', 11_211],
  ['ssdp', 1900],
  ['cldap', 389],
  ['snmp', 161],
  ['chargen', 19],
  ['qotd', 17],
  ['tftp', 69],
  ['portmap', 111],
  ['netbios', 137],
  ['rip', 520],
  ['mssql', 1434],
  ['ws-discovery', 3702],
  ['coap', 5683],
  ['apple-remote', 3283],
  ['ubiquiti', 10_001],
  ['dvr', 37_810],
  ['quake', 27_960],
  ['steam', 27_015],
];

const FLOODS = [
  'syn',
  'syn-ack',
  'ack',
  'rst',
  'tcp',
  'quic-initial',
  'dns-query',
  'udp',
  'icmp',
  'gre',
  'fragment',
  'ip',
] as const;

export type KindName = `${(typeof FLOODS)[number]}-flood` | `${string}-amplification` | 'dns-water-torture';

/** What packets are taken for, each for one; by its index samples are counted. */
export interface Kind {
  readonly name: KindName;
  /** IP protocol, 0: any. */
  readonly protocol: number;
  /** Port that answers of a reflector come from. */
  readonly reflector: number;
  /** Packets a second to one target that nobody takes notice of, in parts of the least rate that is set. */
  readonly floor: number;
}

const protocolOf: Partial<Record<(typeof FLOODS)[number], number>> = {
  icmp: IpProto.icmp,
  gre: IpProto.gre,
  fragment: 0,
  ip: 0,
  udp: IpProto.udp,
  'quic-initial': IpProto.udp,
  'dns-query': IpProto.udp,
};

export const KINDS: readonly Kind[] = [
  ...FLOODS.map(
    (name): Kind => ({
      name: `${name}-flood`,
      protocol: protocolOf[name] ?? IpProto.tcp,
      reflector: 0,
      floor: name === 'ack' ? 3 : 1,
    }),
  ),
  ...REFLECTORS.map(
    ([name, port]): Kind => ({
      name: `${name}-amplification`,
      protocol: IpProto.udp,
      reflector: port,
      floor: 1,
    }),
  ),
  // Counted by name, not by target.
  { name: 'dns-water-torture', protocol: IpProto.udp, reflector: 0, floor: 1 },
];

const index = (name: (typeof FLOODS)[number]): number => FLOODS.indexOf(name);
export const KindIndex = {
  syn: index('syn'),
  synAck: index('syn-ack'),
  ack: index('ack'),
  rst: index('rst'),
  tcp: index('tcp'),
  quicInitial: index('quic-initial'),
  dnsQuery: index('dns-query'),
  udp: index('udp'),
  icmp: index('icmp'),
  gre: index('gre'),
  fragment: index('fragment'),
  ip: index('ip'),
  torture: KINDS.length - 1,
} as const;

const reflectorOf = new Uint8Array(65_536);
for (const [at, [, port]] of REFLECTORS.entries()) reflectorOf[port] = FLOODS.length + at;

/** QUIC versions 1 and 2 (RFC 9000 section 17.2.2, RFC 9369 section 3.2). */
function isQuicInitial(columns: SampleColumns, row: number): boolean {
  const at = columns.payloadAt[row];
  if (at === 0) return false;
  const first = columns.number(row, at, 1);
  if ((first & 0xc0) !== 0xc0) return false;
  const version = columns.number(row, at + 1, 4);
  return (version === 1 && (first & 0x30) === 0) || (version === 0x6b3343cf && (first & 0x30) === 0x10);
}

/** Index in KINDS. */
export function kindOf(columns: SampleColumns, row: number): number {
  if (columns.fragment[row] !== Fragmented.no) return KindIndex.fragment;
  switch (columns.protocol[row]) {
    case IpProto.tcp: {
      const flags = columns.tcpFlags[row];
      if ((flags & RST) !== 0) return KindIndex.rst;
      if ((flags & SYN) !== 0) return (flags & ACK) !== 0 ? KindIndex.synAck : KindIndex.syn;
      return (flags & ACK) !== 0 ? KindIndex.ack : KindIndex.tcp;
    }
    case IpProto.udp: {
      if (isQuicInitial(columns, row)) return KindIndex.quicInitial;
      const reflector = reflectorOf[columns.sport[row]];
      if (reflector !== 0) {
        if (columns.sport[row] !== 53) return reflector;
        if (isDnsResponse(columns, row)) return reflector;
      }
      return columns.dport[row] === 53 && isDnsQuery(columns, row) ? KindIndex.dnsQuery : KindIndex.udp;
    }
    case IpProto.icmp:
    case IpProto.icmpv6:
      return KindIndex.icmp;
    case IpProto.gre:
      return KindIndex.gre;
    default:
      return KindIndex.ip;
  }
}
