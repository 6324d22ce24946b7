import { describe, expect, test } from 'vitest';
import { POSTGRESQL } from '../../../src/flow/services/postgresql.ts';
import { C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const parameters = Buffer.from('user\0postgres\0database\0x\0\0');
const startup = Buffer.concat([Uint8Array.of(0, 0, 0, 8 + parameters.length, 0, 3, 0, 0), parameters]);
const sslRequest = hex('00000008 04d2162f');

describe('postgresql', () => {
  const plain: Said[] = [C(startup), S(hex('52 00000008 00000005 5a 00000005 49')), C(hex('58 00000004'))];
  const tls: Said[] = [C(sslRequest), S('S')];
  const refused: Said[] = [C(sslRequest), S('N'), C(startup), S(hex('52 00000008 00000000'))];
  const gss: Said[] = [C(hex('00000008 04d21630')), S('N'), C(sslRequest), S('S')];
  const old: Said[] = [C(sslRequest), S(hex('45 00000007 534500')), C(startup)];
  stands(POSTGRESQL, { plain, tls, refused, gss, old });

  test('confirmed by a startup or an answer to the question', () => {
    expect(verdict(feed(POSTGRESQL, [C(startup)]))).toBe('confirmed');
    expect(verdict(feed(POSTGRESQL, [C(sslRequest)]))).toBe('unsure');
    expect(verdict(feed(POSTGRESQL, refused))).toBe('confirmed');
    expect(verdict(feed(POSTGRESQL, old))).toBe('confirmed');
  });

  test('hands over after the S', () => {
    expect(verdict(feed(POSTGRESQL, tls))).toBe('confirmed, hands over');
    expect(verdict(feed(POSTGRESQL, gss))).toBe('confirmed, hands over');
    expect(feed(POSTGRESQL, [C(sslRequest), S('S\x16\x03\x03')]).parser.rest).toBe(3);
  });

  test('other protocols', () => {
    expect(suggested(POSTGRESQL, [C('GET / HTTP/1.1\r\n'), S('HTTP/1.1 200')])).toBe(false);
    expect(verdict(feed(POSTGRESQL, [C(sslRequest), S('HTTP/1.1 400')]))).toBe('rejected');
    expect(verdict(feed(POSTGRESQL, [C(hex('00000010 00030000 61626364 65666700'))]))).toBe('rejected');
    expect(verdict(feed(POSTGRESQL, [C(startup), S(hex('52 00000002 0000'))]))).toBe('confirmed, rejected');
  });
});
