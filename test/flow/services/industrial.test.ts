import { describe, expect, test } from 'vitest';
import { DNP3_TCP, DNP3_UDP } from '../../../src/flow/services/dnp3.ts';
import { MODBUS } from '../../../src/flow/services/modbus.ts';
import { bytesOf, C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

describe('modbus', () => {
  const read: Said[] = [C(hex('0001 0000 0006 01 03 0000 0002')), S(hex('0001 0000 0007 01 03 04 00010002'))];
  const refused: Said[] = [C(hex('0007 0000 0005 ff 2b 0e 01 00')), S(hex('0007 0000 0003 ff ab 04'))];
  stands(MODBUS, { read, refused });

  test('confirmed by a response that fits the request', () => {
    expect(verdict(feed(MODBUS, read.slice(0, 1)))).toBe('unsure');
    expect(verdict(feed(MODBUS, read))).toBe('confirmed');
    expect(verdict(feed(MODBUS, refused))).toBe('confirmed');
    expect(verdict(feed(MODBUS, [read[0], S(hex('0002 0000 0007 01 03 04 00010002'))]))).toBe('unsure');
    expect(verdict(feed(MODBUS, [read[0], S(hex('0001 0000 0007 01 04 04 00010002'))]))).toBe('unsure');
  });

  test('other lengths and protocols', () => {
    expect(verdict(feed(MODBUS, [C(hex('0001 0000 0007 01 03 0000 0002 00'))]))).toBe('rejected');
    expect(verdict(feed(MODBUS, [C(hex('0001 0001 0006 01 03 0000 0002'))]))).toBe('rejected');
    expect(suggested(MODBUS, [C('GET / HTTP/1.1\r\n')])).toBe(false);
    expect(suggested(MODBUS, [C(hex('00000008 04d2162f'))])).toBe(false);
  });
});

describe('dnp3', () => {
  // IEEE 1815: reset of the link, and a frame with user data.
  const reset = hex('0564 05 c0 0100 0004 e921');
  const frames: Said[] = [C(Buffer.concat([reset, reset])), S(reset)];
  describe('tcp', () => stands(DNP3_TCP, { frames }));
  describe('udp', () => stands(DNP3_UDP, { one: [C(reset)] }));

  test('confirmed by the checksum of a header', () => {
    expect(verdict(feed(DNP3_TCP, [C(reset)]))).toBe('confirmed');
    const wrong = Uint8Array.from(bytesOf(reset));
    wrong[4] ^= 1;
    expect(verdict(feed(DNP3_TCP, [C(wrong)]))).toBe('rejected');
    expect(suggested(DNP3_UDP, [C(wrong)])).toBe(false);
  });

  test('SOCKS and DCE/RPC begin alike', () => {
    expect(suggested(DNP3_TCP, [C(hex('050100'))])).toBe(false);
  });
});
