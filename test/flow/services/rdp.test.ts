import { describe, expect, test } from 'vitest';
import { RDP, RDPEUDP } from '../../../src/flow/services/rdp.ts';
import { C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const tpkt = (body: Uint8Array) =>
  Buffer.concat([Uint8Array.of(3, 0, (body.length + 4) >>> 8, (body.length + 4) & 0xff), body]);
const connect = (type: number, rest: Uint8Array) =>
  tpkt(Buffer.concat([Uint8Array.of(6 + rest.length, type, 0, 0, 0, 0, 0), rest]));
const cookie = Buffer.from('Cookie: mstshash=admin\r\n');
const request = connect(0xe0, Buffer.concat([cookie, hex('01 00 0800 0b000000')]));
const confirm = (value: string) => connect(0xd0, hex(value));

describe('rdp', () => {
  const tls: Said[] = [C(request), S(Buffer.concat([confirm('02 1f 0800 02000000'), hex('160303')]))];
  const refused: Said[] = [C(request), S(confirm('03 00 0800 02000000'))];
  const standard: Said[] = [
    C(connect(0xe0, new Uint8Array(0))),
    S(connect(0xd0, new Uint8Array(0))),
    C(tpkt(Buffer.concat([hex('02f080 7f65'), Buffer.from('....Duca....')]))),
    S(tpkt(Buffer.concat([hex('02f080 7f66'), Buffer.from('....McDn....')]))),
  ];
  stands(RDP, { tls, refused, standard });

  test('confirmed by the confirm, and hands over to TLS', () => {
    expect(verdict(feed(RDP, [C(request)]))).toBe('unsure');
    expect(verdict(feed(RDP, tls))).toBe('confirmed, hands over');
    expect(feed(RDP, tls).parser.rest).toBe(3);
    expect(verdict(feed(RDP, [C(request), S(confirm('02 00 0800 00000000'))]))).toBe('confirmed');
  });

  test('a refusal is RDP as well', () => expect(verdict(feed(RDP, refused))).toBe('confirmed'));

  test('standard security: confirmed by the conference', () => {
    expect(verdict(feed(RDP, standard.slice(0, 3)))).toBe('unsure');
    expect(verdict(feed(RDP, standard))).toBe('confirmed');
  });

  test('other protocols on TPKT', () => {
    const s7 = [C(connect(0xe0, hex('c00109c1020100c2020102'))), S(connect(0xd0, hex('c00109')))];
    expect(verdict(feed(RDP, s7))).toBe('unsure');
    expect(suggested(RDP, [C('\x03\x01\x00')])).toBe(false);
  });
});

const datagram = (start: string) => Buffer.concat([hex(start), Buffer.alloc(1224)]);

describe('rdpeudp', () => {
  const handshake: Said[] = [C(datagram('ffffffff 0040 0001')), S(datagram('00000001 0040 0005'))];
  stands(RDPEUDP, { handshake });

  test('confirmed by the answer', () => {
    expect(verdict(feed(RDPEUDP, handshake.slice(0, 1)))).toBe('unsure');
    expect(verdict(feed(RDPEUDP, handshake))).toBe('confirmed');
    expect(verdict(feed(RDPEUDP, [handshake[0], S(datagram('00000001 0040 0004'))]))).toBe('rejected');
    expect(verdict(feed(RDPEUDP, [C(datagram('00000001 0040 0001'))]))).toBe('rejected');
  });
});
