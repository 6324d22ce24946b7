import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SERVICES } from '../../../src/flow/services/index.ts';
import { Recognition } from '../../../src/flow/services/recognition.ts';
import { ber, integer, NTLM_NEGOTIATE } from './ber-build.ts';
import { bytesOf, C, hex, S, type Said } from './support.ts';

/** What services are found in a conversation that all recognizers look at, cut into pieces of such sizes. */
function found(
  transport: 'tcp' | 'udp',
  said: readonly Said[],
  port: number,
  chunk: () => number = () => 1e9,
): string {
  const recognition = new Recognition();
  recognition.begin(
    SERVICES.filter((service) => service.transport === transport || service.transport === 'both'),
    port,
  );
  for (const [from, text] of said) {
    const bytes = bytesOf(text);
    for (let at = 0; at < bytes.length; ) {
      const size = Math.min(bytes.length - at, Math.max(1, chunk()));
      recognition.feed(from, bytes, at, size);
      at += size;
    }
  }
  return recognition.names.join(',');
}

const ldapBind = ber(0x30, integer(1), ber(0x60, integer(3), ber(4, 'cn=x'), ber(0x80, 'secret')));
const ntlmBind = ber(
  0x30,
  integer(1),
  ber(0x60, integer(3), ber(4), ber(0xa3, ber(4, 'GSS-SPNEGO'), ber(4, NTLM_NEGOTIATE))),
);
const krbRequest = ber(0x6a, ber(0x30, ber(0xa1, integer(5)), ber(0xa2, integer(10)), ber(0xa4, 'body')));
const startup = hex('00000017 00030000 7573657200 706f73746772657300 00');

const TCP: readonly (readonly [string, readonly Said[]])[] = [
  ['smtp', [S('220 x ESMTP\r\n'), C('EHLO y\r\n'), S('250 x\r\n')]],
  ['ftp', [S('220 x ready\r\n'), C('USER y\r\n'), S('331 password\r\n')]],
  ['ftp', [C('USER y\r\n'), S('220 x ready\r\n331 password\r\n')]],
  ['imap', [S('* OK ready\r\n'), C('a CAPABILITY\r\n')]],
  ['pop3', [S('+OK ready\r\n'), C('USER y\r\n'), S('+OK\r\n')]],
  ['irc', [C('NICK y\r\nUSER y 0 * :Y\r\n'), S(':x 001 y :Welcome\r\n')]],
  ['ldap_tcp', [C(ldapBind)]],
  ['ntlm,ldap_tcp', [C(ntlmBind)]],
  ['krb_tcp', [C(Buffer.concat([Uint8Array.of(0, 0, 0, krbRequest.length), krbRequest]))]],
  ['postgresql', [C(startup), S(hex('52 00000008 00000000'))]],
  ['mqtt', [C(Buffer.concat([hex('10 10 0004'), Buffer.from('MQTT'), hex('04 02 003c 0004 61626364')]))]],
  ['redis', [C('*1\r\n$4\r\nPING\r\n'), S('+PONG\r\n')]],
  ['modbus', [C(hex('0001 0000 0006 01 03 0000 0002')), S(hex('0001 0000 0007 01 03 04 00010002'))]],
  ['dnp3_tcp', [C(hex('0564 05 c0 0100 0004 e921'))]],
  ['bittorrent', [C(`\x13BitTorrent protocol${'\0'.repeat(48)}`)]],
  ['rfb', [S('RFB 003.008\n'), C('RFB 003.008\n')]],
  ['http', [C('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), S('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')]],
];

const wireguard = Buffer.concat([hex('01000000 11223344'), Buffer.alloc(140)]);

const UDP: readonly (readonly [string, readonly Said[]])[] = [
  ['ldap_udp', [C(ldapBind)]],
  ['krb', [C(krbRequest)]],
  ['wireguard', [C(wireguard), S(Buffer.concat([hex('02000000 55667788 11223344'), Buffer.alloc(80)]))]],
  ['ike', [C(hex('0102030405060708 0000000000000000 21202208 00000000 0000001c'))]],
  ['dnp3_udp', [C(hex('0564 05 c0 0100 0004 e921'))]],
  ['bittorrent', [C('d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe')]],
  [
    'openvpn',
    [
      C(hex('38 0102030405060708 00 00000000')),
      S(hex('40 1112131415161718 01 00000000 0102030405060708 00000000')),
    ],
  ],
];

const SMTP_INSIDE: readonly Said[] = [S('220 x ESMTP\r\n'), C('HELO y\r\n'), S('250 x\r\n')];

describe('all recognizers together', () => {
  test.each(TCP)('%s', (name, said) => {
    expect(found('tcp', said, 4242)).toBe(name);
  });

  test.each(UDP)('%s in datagrams', (name, said) => {
    expect(found('udp', said, 4242)).toBe(name);
  });

  test('whatever the pieces', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...TCP),
        fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 10 }),
        ([name, said], sizes) => {
          let i = 0;
          expect(found('tcp', said, 4242, () => sizes[i++ % sizes.length])).toBe(name);
        },
      ),
      { numRuns: 400 },
    );
  });

  test('a proxy, and what goes through it', () => {
    const socks: Said[] = [C(hex('04 01 0019 0a000001 00')), S(hex('00 5a 0000 00000000'))];
    expect(found('tcp', [...socks, ...SMTP_INSIDE], 1080)).toBe('socks,smtp');
    const glued: Said[] = [
      socks[0],
      S(Buffer.concat([bytesOf(socks[1][1]), bytesOf(SMTP_INSIDE[0][1])])),
      ...SMTP_INSIDE.slice(1),
    ];
    expect(found('tcp', glued, 1080)).toBe('socks,smtp');
  });

  test('a violation takes the name off again', () => {
    const said: Said[] = [S('220 x\r\n'), C('USER y\r\n'), S('331 ok\r\n'), C('SYST\r\n'), S('no idea\r\n')];
    expect(found('tcp', said, 21)).toBe('');
  });

  test('random bytes are nothing', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<'tcp' | 'udp'>('tcp', 'udp'),
        fc.array(
          fc.tuple(fc.constantFrom<0 | 1>(0, 1), fc.uint8Array({ minLength: 20, maxLength: 400, max: 255 })),
          { minLength: 1, maxLength: 6 },
        ),
        (transport, said) => {
          expect(found(transport, said, 4242)).toBe('');
        },
      ),
      { numRuns: 2000 },
    );
  });
});
