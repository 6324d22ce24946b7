import { describe, expect, test } from 'vitest';
import { KRB_TCP, KRB_UDP } from '../../../src/flow/services/krb.ts';
import { ber, integer } from './ber-build.ts';
import { bytesOf, C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

const request = ber(0x6a, ber(0x30, ber(0xa1, integer(5)), ber(0xa2, integer(10)), ber(0xa4, 'body')));
const reply = ber(0x6b, ber(0x30, ber(0xa0, integer(5)), ber(0xa1, integer(11)), ber(0xa3, 'realm')));
const error = ber(0x7e, ber(0x30, ber(0xa0, integer(5)), ber(0xa1, integer(30)), ber(0xa4, 'time')));
const framed = (message: Uint8Array) => Buffer.concat([Uint8Array.of(0, 0, 0, message.length), message]);

describe('kerberos', () => {
  const tcp: Said[] = [C(framed(request)), S(framed(error)), C(framed(request)), S(framed(reply))];
  const udp: Said[] = [C(request), S(reply)];
  describe('tcp', () => stands(KRB_TCP, { tcp }));
  describe('udp', () => stands(KRB_UDP, { udp }));

  test('confirmed by a message', () => {
    expect(verdict(feed(KRB_TCP, tcp))).toBe('confirmed');
    expect(verdict(feed(KRB_TCP, [S(framed(error))]))).toBe('confirmed');
    expect(verdict(feed(KRB_UDP, udp))).toBe('confirmed');
  });

  test('type, version and length have to agree', () => {
    const odd = ber(0x6c, ber(0x30, ber(0xa1, integer(5)), ber(0xa2, integer(10)), ber(0xa4, 'body')));
    const old = ber(0x6a, ber(0x30, ber(0xa1, integer(4)), ber(0xa2, integer(10)), ber(0xa4, 'body')));
    for (const wrong of [odd, old, bytesOf(udp[0][1]).subarray(0, -1)]) {
      expect(verdict(feed(KRB_UDP, [C(wrong)]))).toBe('rejected');
      expect(verdict(feed(KRB_TCP, [C(framed(wrong))]))).toBe('rejected');
    }
    expect(suggested(KRB_TCP, [C('GET / HTTP/1.1\r\n')])).toBe(false);
  });
});
