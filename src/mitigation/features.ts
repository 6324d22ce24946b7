import { IpProto } from '../packet/decode.ts';
import type { Rows, SampleColumns } from './columns.ts';
import { addressText } from './prefix.ts';

/** Which header the offset of a feature counts from. */
export type Base = 'network' | 'transport';

/** A number that every packet of a kind has in the same place, and that a tcpdump expression can name. */
export interface Feature {
  readonly name: string;
  readonly base: Base;
  readonly at: number;
  readonly size: 1 | 2 | 4;
  readonly mask: number;
  /** Whether neighbouring values mean something alike: only then are ranges of it of use. */
  readonly ordered: boolean;
  /** The greatest value it can have. */
  readonly most: number;
}

const feature = (
  name: string,
  base: Base,
  at: number,
  size: 1 | 2 | 4,
  ordered = false,
  mask = 2 ** (8 * size) - 1,
): Feature => ({ name, base, at, size, mask, ordered, most: mask });

const IPV4: readonly Feature[] = [
  feature('ttl', 'network', 8, 1, true),
  feature('length', 'network', 2, 2, true),
  feature('tos', 'network', 1, 1),
  feature('ip-id', 'network', 4, 2),
  feature('dont-fragment', 'network', 6, 1, false, 0x40),
  feature('source-24', 'network', 12, 4, false, 0xffffff00),
  feature('source', 'network', 12, 4),
];
const IPV6: readonly Feature[] = [
  feature('ttl', 'network', 7, 1, true),
  feature('length', 'network', 4, 2, true),
  feature('flow-label', 'network', 0, 4, false, 0x000fffff),
  feature('source-32', 'network', 8, 4),
  feature('source-64', 'network', 12, 4),
  feature('source-low', 'network', 20, 4),
];
const PORTS: readonly Feature[] = [
  feature('sport', 'transport', 0, 2, true),
  feature('dport', 'transport', 2, 2, true),
];
const TCP: readonly Feature[] = [
  ...PORTS,
  feature('seq', 'transport', 4, 4),
  feature('ack', 'transport', 8, 4),
  feature('header', 'transport', 12, 1),
  feature('flags', 'transport', 13, 1),
  feature('window', 'transport', 14, 2, true),
  feature('urgent', 'transport', 18, 2),
  ...[20, 24, 28, 32, 36].map((at) => feature(`option-${at - 20}`, 'transport', at, 4)),
  feature('option-kind', 'transport', 20, 1),
];
const words = (from: number, to: number): Feature[] => {
  const all: Feature[] = [];
  for (let at = from; at < to; at += 4) all.push(feature(`payload-${at - from}`, 'transport', at, 4));
  return all;
};
const UDP: readonly Feature[] = [
  ...PORTS,
  feature('udp-checksum', 'transport', 6, 2),
  ...words(8, 40),
  ...[8, 9, 10, 11, 12, 13, 14, 15, 20].map((at) => feature(`payload-byte-${at - 8}`, 'transport', at, 1)),
  feature('payload-half-2', 'transport', 10, 2),
];
const ICMP: readonly Feature[] = [
  feature('icmp-type', 'transport', 0, 1),
  feature('icmp-code', 'transport', 1, 1),
  feature('icmp-id', 'transport', 4, 2),
  feature('icmp-sequence', 'transport', 6, 2, true),
  ...words(8, 24),
];
const GRE: readonly Feature[] = [
  feature('gre-flags', 'transport', 0, 2),
  feature('gre-type', 'transport', 2, 2),
];
const FRAGMENT4: readonly Feature[] = [
  feature('protocol', 'network', 9, 1),
  feature('fragment', 'network', 6, 2, true, 0x1fff),
];

const OF: Partial<Record<number, readonly Feature[]>> = {
  [IpProto.tcp]: TCP,
  [IpProto.udp]: UDP,
  [IpProto.icmp]: ICMP,
  [IpProto.icmpv6]: ICMP,
  [IpProto.gre]: GRE,
};

/** What can be said of packets of a protocol; 0 for fragments and all others. */
export function featuresOf(family: 4 | 6, protocol: number): readonly Feature[] {
  const network = family === 4 ? IPV4 : IPV6;
  return [...network, ...(OF[protocol] ?? (family === 4 ? FRAGMENT4 : []))];
}

/** The value in a row; -1 where it was not captured. */
export function valueOf(columns: SampleColumns, row: number, { base, at, size, mask }: Feature): number {
  const from = base === 'network' ? columns.networkAt[row] : columns.transportAt[row];
  if (from === 0) return -1;
  const value = columns.number(row, from + at, size);
  return value < 0 ? -1 : (value & mask) >>> 0;
}

/** A feature with the values that belong to an attack: single ones, or a range; or with those that do not. */
export type Term =
  | { readonly feature: Feature; readonly values: readonly number[] }
  | { readonly feature: Feature; readonly low: number; readonly high: number }
  | { readonly feature: Feature; readonly except: readonly number[] };

export function holds(columns: SampleColumns, row: number, term: Term): boolean {
  const value = valueOf(columns, row, term.feature);
  if (value < 0) return false;
  if ('except' in term) return !term.except.includes(value);
  return 'values' in term ? term.values.includes(value) : value >= term.low && value <= term.high;
}

/** For how many of these a term holds. */
export function matching({ columns, rows }: Rows, term: Term): number {
  let count = 0;
  for (const row of rows) if (holds(columns, row, term)) count++;
  return count;
}

/** How often these have each value, and how many have one. */
export function counted(
  { columns, rows }: Rows,
  feature: Feature,
): { values: Map<number, number>; known: number } {
  const values = new Map<number, number>();
  let known = 0;
  for (const row of rows) {
    const value = valueOf(columns, row, feature);
    if (value < 0) continue;
    known++;
    values.set(value, (values.get(value) ?? 0) + 1);
  }
  return { values, known };
}

/** Header of IPv6 without extension headers, as far as expressions see. */
const IPV6_HEADER = 40;
const IPV4_HEADER = 20;

/** How an expression calls the place: libpcap finds the transport header of IPv4 by itself, that of IPv6 it does not. */
function placeText(family: 4 | 6, protocol: number, { base, at, size, mask }: Feature): string {
  const ip = family === 4 ? 'ip' : 'ip6';
  const index = (offset: number): string => (size === 1 ? `[${offset}]` : `[${offset}:${size}]`);
  const whole = mask === 2 ** (8 * size) - 1;
  const masked = (text: string): string => (whole ? text : `${text} & 0x${mask.toString(16)}`);
  if (base === 'network') return masked(`${ip}${index(at)}`);
  if (family === 4) {
    const name =
      protocol === IpProto.tcp
        ? 'tcp'
        : protocol === IpProto.udp
          ? 'udp'
          : protocol === IpProto.icmp
            ? 'icmp'
            : undefined;
    return masked(name === undefined ? `ip${index(IPV4_HEADER + at)}` : `${name}${index(at)}`);
  }
  return masked(`ip6${index(IPV6_HEADER + at)}`);
}

const NAMED: Record<string, string> = { sport: 'src port', dport: 'dst port' };

function addressWord(value: number): string {
  return addressText(4, Uint32Array.of(0, 0, 0, value), 0);
}

/** As a part of a tcpdump expression for packets that are known to be of the family and protocol. */
export function termText(family: 4 | 6, protocol: number, term: Term): string {
  const { feature } = term;
  const place = placeText(family, protocol, feature);
  const named = family === 4 ? NAMED[feature.name] : undefined;
  if ('low' in term) {
    if (named !== undefined) return `${named}range ${term.low}-${term.high}`;
    const parts = [
      ...(term.low > 0 ? [`${place} >= ${term.low}`] : []),
      ...(term.high < feature.most ? [`${place} <= ${term.high}`] : []),
    ];
    return parts.join(' and ');
  }
  const each = ('except' in term ? term.except : term.values).map((value) => {
    if (named !== undefined) return `${named} ${value}`;
    if (feature.name === 'source') return `src host ${addressWord(value)}`;
    if (feature.name === 'source-24') return `src net ${addressWord(value)}/24`;
    return `${place} = ${feature.size === 4 ? `0x${value.toString(16)}` : value}`;
  });
  if ('except' in term) return `not (${each.join(' or ')})`;
  return each.length === 1 ? each[0] : `(${each.join(' or ')})`;
}
