import { describe, expect, test } from 'vitest';
import { SOCKS } from '../../../src/flow/services/socks.ts';
import { C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const four: Said[] = [C(hex('04 01 0050 0a000001 757365 00')), S(hex('00 5a 0000 00000000'))];
const named: Said[] = [
  C(Buffer.concat([hex('04 01 01bb 00000001 00'), Buffer.from('x.example\0')])),
  four[1],
];
const five: Said[] = [
  C(hex('05 02 00 02')),
  S(hex('05 00')),
  C(Buffer.concat([hex('05 01 00 03 09'), Buffer.from('x.example'), hex('01bb')])),
  S(hex('05 00 00 01 00000000 0000 160303')),
];
const login: Said[] = [
  C(hex('05 01 02')),
  S(hex('05 02')),
  C(hex('01 01 61 02 6263')),
  S(hex('01 00')),
  C(Buffer.concat([hex('05 01 00 04'), Buffer.alloc(16), hex('0050')])),
  S(hex('05 00 00 01 00000000 0000')),
];

describe('socks', () => {
  stands(SOCKS, { four, named, five, login });

  test('hands over after what the server grants', () => {
    for (const said of [four, named, five, login])
      expect(verdict(feed(SOCKS, said))).toBe('confirmed, hands over');
    expect(feed(SOCKS, five).parser.rest).toBe(3);
  });

  test('a refusal is SOCKS as well', () => {
    expect(verdict(feed(SOCKS, [four[0], S(hex('00 5b 0000 00000000'))]))).toBe('confirmed');
    expect(verdict(feed(SOCKS, [...five.slice(0, 3), S(hex('05 05 00 01 00000000 0000'))]))).toBe(
      'confirmed',
    );
    expect(verdict(feed(SOCKS, [five[0], S(hex('05 ff'))]))).toBe('unsure');
  });

  test('other protocols', () => {
    expect(suggested(SOCKS, [C(hex('0564 05c0'))])).toBe(false);
    expect(suggested(SOCKS, [C(hex('05000b03'))])).toBe(false);
    expect(verdict(feed(SOCKS, [four[0], S('HTTP/1.1 400')]))).toBe('rejected');
    expect(verdict(feed(SOCKS, [five[0], S(hex('0500')), C(hex('05 09 00 01'))]))).toBe('rejected');
  });
});
