import type { Veto } from './expression.ts';
import { DNS_QUERY, vetoesText } from './expression.ts';

/** Labels before a name that an expression can pass over, one after the other. */
export const MOST_BEFORE = 3;
const IPV6_HEADER = 40;
/** In the UDP datagram: the first label of the first question (RFC 1035 section 4.1.1). */
const NAME_AT = 20;
/** Letters in any case; what else it makes alike are no bytes of names, but for lengths of labels. */
const LOWER = 0x20;

/** Bytes of a name as queries have it, its root as well. */
function wireOf(name: string): number[] {
  const labels = name.split('.').map((label) => [label.length, ...new TextEncoder().encode(label)]);
  return [...labels.flat(), 0];
}

/** Where the label is that `before` others stand in front of, as arithmetic of libpcap. */
function placeOf(header: string, begin: number, before: number): string {
  let place = `${begin}`;
  for (let i = 0; i < before; i++) place = `${place} + ${header}[${place}] + 1`;
  return place;
}

/** Whether the bytes from there on are the name. */
function nameText(header: string, place: string, name: string): string {
  const bytes = wireOf(name);
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const left = bytes.length - 1 - at;
    const size = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const index = `${header}[${place}${at === 0 ? '' : ` + ${at}`}${size === 1 ? '' : `:${size}`}]`;
    let value = 0;
    let mask = 0;
    for (let i = 0; i < size; i++) {
      value = value * 256 + (left === 0 ? 0 : bytes[at + i] | LOWER);
      mask = mask * 256 + LOWER;
    }
    // The root is a zero and nothing else.
    parts.push(left === 0 ? `${index} = 0` : `${index} | 0x${mask.toString(16)} = 0x${value.toString(16)}`);
    at += size;
  }
  return parts.join(' and ');
}

/** What a rule against queries for names under one is made of. */
export interface NameStatement {
  readonly family: 4 | 6;
  /** Lower case. */
  readonly name: string;
  /** How many labels stand before it: one or several numbers up to MOST_BEFORE. */
  readonly before: readonly number[];
  readonly vetoes: readonly Veto[];
  /** VLAN tags before IP. */
  readonly tags: number;
}

/**
 * The tcpdump expression for DNS queries for names with so many labels before this one, in any case, that leaves out what is
 * vetoed: the language `dns` knows names, and no addresses. IPv6 without extension headers.
 */
export function nameExpression({ family, name, before, vetoes, tags }: NameStatement): string {
  const v4 = family === 4;
  const header = v4 ? 'udp' : 'ip6';
  const begin = v4 ? NAME_AT : IPV6_HEADER + NAME_AT;
  const names = before.map((labels) => nameText(header, placeOf(header, begin, labels), name));
  const query = v4
    ? ['udp dst port 53', ...DNS_QUERY]
    : [
        'ip6[6] = 17',
        'ip6[42:2] = 53',
        `ip6[${IPV6_HEADER + 10}] & 0xf8 = 0`,
        `ip6[${IPV6_HEADER + 12}:2] = 1`,
      ];
  const parts = [
    ...query,
    names.length === 1 ? names[0] : `(${names.map((text) => `(${text})`).join(' or ')})`,
    ...vetoesText(vetoes),
  ];
  return `${'vlan and '.repeat(tags)}${parts.join(' and ')}`;
}
