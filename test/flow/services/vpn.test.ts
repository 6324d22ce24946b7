import { describe, expect, test } from 'vitest';
import { IKE } from '../../../src/flow/services/ike.ts';
import { OPENVPN_TCP, OPENVPN_UDP } from '../../../src/flow/services/openvpn.ts';
import { WIREGUARD } from '../../../src/flow/services/wireguard.ts';
import { bytesOf, C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const whole = () => 1e9;

describe('wireguard', () => {
  const initiation = Buffer.concat([hex('01000000 11223344'), Buffer.alloc(140)]);
  const response = Buffer.concat([hex('02000000 55667788 11223344'), Buffer.alloc(80)]);
  const cookie = Buffer.concat([hex('03000000 11223344'), Buffer.alloc(56)]);
  stands(WIREGUARD, { handshake: [C(initiation), S(response)], cookie: [C(initiation), S(cookie)] });

  test('confirmed by an answer to the initiation', () => {
    expect(verdict(feed(WIREGUARD, [C(initiation)]))).toBe('unsure');
    expect(verdict(feed(WIREGUARD, [C(initiation), S(response)]))).toBe('confirmed');
    expect(verdict(feed(WIREGUARD, [C(initiation), S(cookie)]))).toBe('confirmed');
    const other = Uint8Array.from(response);
    other[8] ^= 1;
    expect(verdict(feed(WIREGUARD, [C(initiation), S(other)]))).toBe('rejected');
    expect(suggested(WIREGUARD, [C(initiation.subarray(1))])).toBe(false);
  });
});

const framed = (bytes: Uint8Array) => Buffer.concat([Uint8Array.of(0, bytes.length), bytes]);

describe('openvpn', () => {
  const client = hex('38 0102030405060708 00 00000000');
  const server = hex('40 1112131415161718 01 00000000 0102030405060708 00000000');
  describe('udp', () => stands(OPENVPN_UDP, { plain: [C(client), S(server)] }));
  describe('tcp', () => stands(OPENVPN_TCP, { plain: [C(framed(client)), S(framed(server))] }));

  test('confirmed by a server that names the session of the client', () => {
    expect(verdict(feed(OPENVPN_UDP, [C(client)]))).toBe('unsure');
    expect(verdict(feed(OPENVPN_UDP, [C(client), S(server)]))).toBe('confirmed');
    expect(verdict(feed(OPENVPN_TCP, [C(framed(client)), S(framed(server))]))).toBe('confirmed');
    const other = Uint8Array.from(bytesOf(server));
    other[15] ^= 1;
    expect(verdict(feed(OPENVPN_UDP, [C(client), S(other)]))).toBe('rejected');
  });

  test('other beginnings', () => {
    expect(suggested(OPENVPN_UDP, [C(hex('38 01'))])).toBe(false);
    expect(suggested(OPENVPN_TCP, [C('8 bytes and more of text')])).toBe(false);
  });
});

const message = (exchange: number, version = 0x20) =>
  hex(
    `0102030405060708 0000000000000000 21${version.toString(16)}${exchange.toString(16).padStart(2, '0')}08 00000000 0000001c`,
  );

const esp = (number: number, index = 'c0ffee01') =>
  Buffer.concat([hex(index), Uint8Array.of(0, 0, 0, number), Buffer.alloc(40, 7)]);

describe('ike', () => {
  const init = message(34);
  const marked = Buffer.concat([Buffer.alloc(4), init]);
  const natted: Said[] = [C(marked), C(esp(1)), C(esp(2)), C(esp(3))];
  stands(IKE, { plain: [C(init), S(init)], natted });

  test('confirmed by a message', () => {
    expect(verdict(feed(IKE, [C(init)]))).toBe('confirmed');
    expect(verdict(feed(IKE, [C(message(2, 0x10))]))).toBe('confirmed');
    expect(suggested(IKE, [C(message(60))])).toBe(false);
    expect(suggested(IKE, [C(Buffer.concat([init, Buffer.alloc(1)]))])).toBe(false);
  });

  test('ESP behind it, or alone on port 4500', () => {
    expect(feed(IKE, natted).parser.inside).toEqual(['esp']);
    const alone: Said[] = [C(esp(9)), S(esp(4, 'beef0001')), C(esp(10)), C(Uint8Array.of(0xff)), C(esp(12))];
    expect(suggested(IKE, alone, 4500)).toBe(true);
    expect(suggested(IKE, alone, 4501)).toBe(false);
    expect(feed(IKE, alone, whole, 4500).parser.inside).toEqual(['esp']);
    expect(feed(IKE, [C(esp(9)), C(esp(8)), C(esp(7))], whole, 4500).parser.inside).toEqual([]);
  });
});
