import { describe, expect, test } from 'vitest';
import { LDAP_TCP, LDAP_UDP } from '../../../src/flow/services/ldap.ts';
import { ber, integer, kerberos, NTLM_NEGOTIATE, spnego } from './ber-build.ts';
import { bytesOf, C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const result = (tag: number, code: number, ...more: Uint8Array[]) =>
  ber(tag, ber(10, Uint8Array.of(code)), ber(4), ber(4), ...more);
const message = (id: number, operation: Uint8Array, ...more: Uint8Array[]) =>
  ber(0x30, integer(id), operation, ...more);
const simple = message(1, ber(0x60, integer(3), ber(4, 'cn=x'), ber(0x80, 'secret')));
const sasl = (mechanism: string, token: Uint8Array) =>
  message(2, ber(0x60, integer(3), ber(4), ber(0xa3, ber(4, mechanism), ber(4, token))));

const bind: Said[] = [
  C(simple),
  S(message(1, result(0x61, 0))),
  C(message(2, ber(0x63, ber(4, 'dc=x')), ber(0xa0, 'controls'))),
];
const startTls: Said[] = [
  C(message(1, ber(0x77, ber(0x80, '1.3.6.1.4.1.1466.20037')))),
  S(Buffer.concat([message(1, result(0x78, 0)), Buffer.from([0x16, 3, 3])])),
];
const gssapi: Said[] = [
  C(sasl('GSS-SPNEGO', spnego(kerberos()))),
  S(message(2, result(0x61, 0, ber(0x87, 'x')))),
  C(hex('00000010 050406ff 00000000')),
];
const ntlm: Said[] = [C(sasl('GSS-SPNEGO', NTLM_NEGOTIATE)), S(message(2, result(0x61, 14)))];

describe('ldap over tcp', () => {
  stands(LDAP_TCP, { bind, startTls, gssapi, ntlm });

  test('confirmed by the first message', () => {
    expect(verdict(feed(LDAP_TCP, [C(simple)]))).toBe('confirmed');
    expect(verdict(feed(LDAP_TCP, [C(simple.subarray(0, -1))]))).toBe('unsure');
    expect(verdict(feed(LDAP_TCP, bind))).toBe('confirmed');
  });

  test('hands over after the answer to StartTLS', () => {
    const outcome = feed(LDAP_TCP, startTls);
    expect(verdict(outcome)).toBe('confirmed, hands over');
    expect(outcome.parser.rest).toBe(3);
    expect(verdict(feed(LDAP_TCP, [startTls[0], S(message(1, result(0x78, 52)))]))).toBe('confirmed');
  });

  test('names what authenticates, and does not read what is wrapped', () => {
    expect(feed(LDAP_TCP, gssapi).parser.inside).toEqual(['krb', 'gssapi']);
    expect(verdict(feed(LDAP_TCP, gssapi))).toBe('confirmed');
    expect(feed(LDAP_TCP, ntlm).parser.inside).toEqual(['ntlm']);
    expect(feed(LDAP_TCP, bind).parser.inside).toEqual([]);
  });

  test('other protocols', () => {
    const snmp = ber(0x30, integer(1), ber(4, 'public'), ber(0xa0, integer(1)));
    expect(suggested(LDAP_TCP, [C(snmp)])).toBe(false);
    expect(verdict(feed(LDAP_TCP, [C(snmp)]))).toBe('rejected');
    expect(verdict(feed(LDAP_TCP, [C(message(1, ber(0x60, 'text')))]))).toBe('rejected');
    expect(verdict(feed(LDAP_TCP, [C(simple), C(hex('160301020001000102'))]))).toBe('confirmed, rejected');
  });
});

describe('ldap over udp', () => {
  const search: Said[] = [C(message(1, ber(0x63, ber(4), ber(10, '\0')))), S(message(1, ber(0x64, ber(4))))];
  stands(LDAP_UDP, { search });

  test('one whole message', () => {
    expect(verdict(feed(LDAP_UDP, search))).toBe('confirmed');
    expect(verdict(feed(LDAP_UDP, [C(bytesOf(search[0][1]).subarray(0, -1))]))).toBe('rejected');
  });
});
