import { IpProto } from '../packet/decode.ts';
import type { SampleColumns } from './columns.ts';
import { type Term, termText } from './features.ts';
import { KINDS, KindIndex, kindOf } from './kinds.ts';
import { addressText, type Prefix, prefixText } from './prefix.ts';

/** Of IPv4: a query with one question. */
export const DNS_QUERY = ['udp[10] & 0xf8 = 0', 'udp[12:2] = 1'];

/** By kind, as libpcap has it for IPv4. */
function partsOf(kind: number): string[] {
  switch (kind) {
    case KindIndex.syn:
      return ['tcp[13] & 0x16 = 2'];
    case KindIndex.synAck:
      return ['tcp[13] & 0x16 = 0x12'];
    case KindIndex.ack:
      return ['tcp[13] & 0x16 = 0x10'];
    case KindIndex.rst:
      return ['tcp[13] & 4 != 0'];
    case KindIndex.tcp:
      return ['tcp[13] & 0x16 = 0'];
    case KindIndex.quicInitial:
      return [
        '((udp[8] & 0xf0 = 0xc0 and udp[9:4] = 1) or (udp[8] & 0xf0 = 0xd0 and udp[9:4] = 0x6b3343cf))',
      ];
    case KindIndex.dnsQuery:
    case KindIndex.torture:
      return ['udp dst port 53', ...DNS_QUERY];
    case KindIndex.udp:
      return ['udp'];
    case KindIndex.icmp:
      return ['icmp'];
    case KindIndex.gre:
      return ['ip[9] = 47'];
    case KindIndex.fragment:
      return ['ip[6:2] & 0x3fff != 0'];
    default: {
      const { reflector } = KINDS[kind];
      if (reflector === 0) return ['ip'];
      return [`udp src port ${reflector}`, ...(reflector === 53 ? ['udp[10] & 0x80 != 0'] : [])];
    }
  }
}

/** The same for IPv6 without extension headers. */
function baseParts(kind: number, family: 4 | 6): string[] {
  const parts = partsOf(kind);
  if (family === 4) return parts;
  const { protocol } = KINDS[kind];
  if (kind === KindIndex.fragment) return ['ip6[6] = 44'];
  if (kind === KindIndex.icmp) return ['ip6[6] = 58'];
  if (kind === KindIndex.ip) return ['ip6'];
  return [
    `ip6[6] = ${protocol}`,
    ...parts
      .filter((part) => part !== 'udp' && part !== 'ip[9] = 47')
      .map((part) => part.replace(/(?:tcp|udp)\[(\d+)/g, (_, at: string) => `ip6[${40 + Number(at)}`)),
  ];
}

/** Whether what is said of the kind holds for a packet: for some the words say more than the kind. */
export function baseHolds(kind: number, columns: SampleColumns, row: number): boolean {
  const { protocol } = KINDS[kind];
  if (kind === KindIndex.udp) return columns.protocol[row] === protocol;
  if (kind === KindIndex.ip) return true;
  return kindOf(columns, row) === (kind === KindIndex.torture ? KindIndex.dnsQuery : kind);
}

/** Whom nothing may be done to, and of whom nothing may be held back; what is left out may be anything. */
export interface Veto {
  /** Source or target. */
  readonly host?: Prefix;
  readonly protocol?: 'tcp' | 'udp';
  /** Of either end. */
  readonly port?: number;
}

function vetoText({ host, protocol, port }: Veto): string {
  return [
    ...(protocol === undefined ? [] : [protocol]),
    ...(host === undefined
      ? []
      : [`${host.bits === (host.family === 4 ? 32 : 128) ? 'host' : 'net'} ${prefixText(host)}`]),
    ...(port === undefined ? [] : [`port ${port}`]),
  ].join(' and ');
}

/** The part of an expression that leaves out what is vetoed; none without vetoes. */
export function vetoesText(vetoes: readonly Veto[]): string[] {
  return vetoes.length === 0 ? [] : [`not (${vetoes.map((veto) => `(${vetoText(veto)})`).join(' or ')})`];
}

/** What an expression is made of; `target` undefined: wherever it goes. */
export interface Statement {
  readonly kind: number;
  readonly family: 4 | 6;
  readonly target: Prefix | undefined;
  readonly terms: readonly Term[];
  readonly vetoes: readonly Veto[];
  /** VLAN tags before IP. */
  readonly tags: number;
}

const targetText = (target: Prefix): string =>
  target.bits === (target.family === 4 ? 32 : 128)
    ? `dst host ${addressText(target.family, target.words, 0)}`
    : `dst net ${prefixText(target)}`;

/** The tcpdump expression. */
export function expressionOf({ kind, family, target, terms, vetoes, tags }: Statement): string {
  const protocol = kind === KindIndex.icmp && family === 6 ? IpProto.icmpv6 : KINDS[kind].protocol;
  const parts = [
    ...(target === undefined ? [family === 4 ? 'ip' : 'ip6'] : [targetText(target)]),
    ...baseParts(kind, family),
    ...terms.map((term) => termText(family, protocol, term)),
    ...vetoesText(vetoes),
  ];
  return `${'vlan and '.repeat(tags)}${parts.join(' and ')}`;
}
