import { describe, expect, test } from 'vitest';
import { MYSQL } from '../../../src/flow/services/mysql.ts';
import { C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const packet = (sequence: number, body: Uint8Array) =>
  Buffer.concat([Uint8Array.of(body.length & 0xff, body.length >>> 8, 0, sequence), body]);
const greeting = packet(
  0,
  Buffer.concat([
    Buffer.from('\x0a8.0.36\0', 'latin1'),
    hex('08000000 6162636465666768 00 ffff ff0200'),
    Buffer.alloc(40),
  ]),
);
const sslRequest = packet(1, Buffer.concat([hex('85aeff19 00000001 ff'), Buffer.alloc(23)]));
const login = packet(
  1,
  Buffer.concat([hex('85a6ff19 00000001 ff'), Buffer.alloc(23), Buffer.from('root\0\0')]),
);

describe('mysql', () => {
  const plain: Said[] = [S(greeting), C(login), S(packet(2, hex('00000002000000')))];
  const tls: Said[] = [S(greeting), C(Buffer.concat([sslRequest, hex('160301')]))];
  stands(MYSQL, { plain, tls });

  test('confirmed by the answer to the greeting', () => {
    expect(verdict(feed(MYSQL, [S(greeting)]))).toBe('unsure');
    expect(verdict(feed(MYSQL, plain))).toBe('confirmed');
  });

  test('hands over after the request for TLS', () => {
    expect(verdict(feed(MYSQL, tls))).toBe('confirmed, hands over');
    expect(feed(MYSQL, tls).parser.rest).toBe(3);
  });

  test('other protocols', () => {
    expect(suggested(MYSQL, [S('220 x ESMTP\r\n')])).toBe(false);
    expect(suggested(MYSQL, [S(hex('00000010 0a000000 ff534d42'))])).toBe(false);
    expect(verdict(feed(MYSQL, [S(packet(0, hex('0a3500ff000000000000'))), C('GET / HTTP/1.0\r\n')]))).toBe(
      'rejected',
    );
    expect(verdict(feed(MYSQL, [S(packet(0, hex('0a018000ff0000000000')))]))).toBe('rejected');
  });
});
