import { describe, expect, test } from 'vitest';
import { DHCP } from '../../../src/flow/services/dhcp.ts';
import { NTP } from '../../../src/flow/services/ntp.ts';
import { RADIUS } from '../../../src/flow/services/radius.ts';
import { type Service, ServiceNews } from '../../../src/flow/services/service.ts';
import { SIP } from '../../../src/flow/services/sip.ts';
import { SNMP } from '../../../src/flow/services/snmp.ts';
import { STUN } from '../../../src/flow/services/stun.ts';
import { SYSLOG, SYSLOG_TCP } from '../../../src/flow/services/syslog.ts';
import { C, feed, hex, S, stands, suggested, verdict } from './support.ts';

const at = (service: Service, port: number): Service => ({
  ...service,
  looksLike: (u8, offset, length, from) => service.looksLike(u8, offset, length, from, port),
  parser: () => service.parser(port),
});

function ntp(first: number, origin = '00', transmit = '11'): Uint8Array {
  return hex(
    `${first.toString(16)} 01 08 ec ${'00'.repeat(8)} 47505300 ${'22'.repeat(8)} ${origin.repeat(8)} ${'33'.repeat(8)} ${transmit.repeat(8)}`,
  );
}

describe('ntp', () => {
  const question = ntp(0x23, '00', '11');
  const answer = ntp(0x24, '11', '44');
  stands(NTP, { exchange: [C(question), S(answer)] });
  stands(at(NTP, 123), { control: [C(hex('1602 0001 0000 0000 0000 0000'))], answer: [C(answer)] });

  test('on its port one message; elsewhere the answer has to fit the question', () => {
    expect(verdict(feed(NTP, [C(question)], undefined, 123))).toBe('confirmed');
    expect(verdict(feed(NTP, [C(question)]))).toBe('unsure');
    expect(verdict(feed(NTP, [C(question), S(answer)]))).toBe('confirmed');
    expect(verdict(feed(NTP, [C(question), S(ntp(0x24, '12'))]))).toBe('rejected');
    expect(verdict(feed(NTP, [C(ntp(0x23, '00', '00')), S(ntp(0x24, '00'))]))).toBe('rejected');
  });

  test('a server that speaks first is the responder', () => {
    expect(feed(NTP, [C(answer)], undefined, 123).bits & ServiceNews.flip).not.toBe(0);
    expect(feed(NTP, [C(question)], undefined, 123).bits & ServiceNews.flip).toBe(0);
    expect(feed(NTP, [S(answer)], undefined, 123).bits & ServiceNews.flip).toBe(0);
  });

  test.each([
    ['47 bytes', ntp(0x23).subarray(0, 47)],
    ['version 5', ntp(0x2b)],
    ['mode 0', ntp(0x20)],
  ])('not %s', (_what, bytes) => {
    expect(suggested(NTP, [C(bytes)], 123)).toBe(false);
  });
});

describe('dhcp', () => {
  const discover = hex(`01 01 06 00 ${'00'.repeat(232)} 63825363 350101 ff`);
  stands(DHCP, { discover: [C(discover)] });

  test('BOOTP with the cookie', () => {
    expect(verdict(feed(DHCP, [C(discover)]))).toBe('confirmed');
    expect(suggested(DHCP, [C(discover.subarray(0, 238))])).toBe(false);
    expect(suggested(DHCP, [C(hex(`03 01 06 00 ${'00'.repeat(232)} 63825363 ff`))])).toBe(false);
    expect(suggested(DHCP, [C(hex(`01 01 06 00 ${'00'.repeat(232)} 63825364 ff`))])).toBe(false);
  });
});

describe('snmp', () => {
  const pdu = 'a01c 02 04 12345678 02 01 00 02 01 00 30 0e 30 0c 06 08 2b06010201010300 05 00';
  const get = hex(`30 29 02 01 01 04 06 7075626c6963 ${pdu}`);
  const response = hex(`30 29 02 01 01 04 06 7075626c6963 ${pdu.replace('a0', 'a2')}`);
  const v3 = hex(
    '30 1f 02 01 03 30 10 02 03 011111 02 03 00ffe3 04 01 04 02 01 03 04 02 3000 30 04 04000400',
  );
  stands(SNMP, { exchange: [C(get), S(response)], v3: [C(v3), S(v3)] });

  test('confirmed by the responder, as in Zeek', () => {
    expect(verdict(feed(SNMP, [C(get)]))).toBe('unsure');
    expect(verdict(feed(SNMP, [C(get), S(response)]))).toBe('confirmed');
    expect(verdict(feed(SNMP, [C(v3), S(v3)]))).toBe('confirmed');
    expect(verdict(feed(SNMP, [C(get), S(Uint8Array.of(1, 2, 3))]))).toBe('rejected');
  });

  test.each([
    ['version 2', hex(`30 29 02 01 02 04 06 7075626c6963 ${pdu}`)],
    ['a length beyond the datagram', get.subarray(0, 40)],
    ['more behind it', Buffer.concat([get, Uint8Array.of(0)])],
    ['another application tag', hex(`30 29 02 01 01 04 06 7075626c6963 ${pdu.replace('a0', 'a9')}`)],
    ['an indefinite length', hex('3080 020101')],
  ])('not %s', (_what, bytes) => {
    expect(suggested(SNMP, [C(bytes)])).toBe(false);
  });
});

describe('sip', () => {
  const invite = 'INVITE sip:bob@biloxi.example.com SIP/2.0\r\nVia: SIP/2.0/UDP pc33\r\n\r\n';
  const trying = 'SIP/2.0 100 Trying\r\nVia: SIP/2.0/UDP pc33\r\n\r\n';
  stands(SIP, { call: [C(invite), S(trying)] });

  test('confirmed by a reply', () => {
    expect(verdict(feed(SIP, [C(invite)]))).toBe('unsure');
    expect(verdict(feed(SIP, [C(invite), C('\r\n\r\n'), S(trying)]))).toBe('confirmed');
    expect(verdict(feed(SIP, [C(invite), S('HTTP/1.1 200 OK\r\n')]))).toBe('rejected');
    expect(suggested(SIP, [C('M-SEARCH * HTTP/1.1\r\n\r\n')])).toBe(false);
    expect(suggested(SIP, [C('INVITE sip:bob SIP/2.0')])).toBe(false);
  });
});

describe('syslog', () => {
  const line = "<34>Oct 11 22:14:15 host su: 'su root' failed\n";
  stands(SYSLOG, { line: [C(line)] });
  stands(SYSLOG_TCP, {
    lines: [C(`${line}${line}`)],
    counted: [C(`${line.length} ${line}`)],
  });

  test('over UDP a priority is enough', () => {
    expect(verdict(feed(SYSLOG, [C(line)]))).toBe('confirmed');
    for (const text of ['<192>x', '<>xx', '<1234>x', '<12x>y', 'x<34>', '<34']) {
      expect(suggested(SYSLOG, [C(text)]), text).toBe(false);
    }
  });

  test('over TCP a whole message, however it is framed', () => {
    expect(verdict(feed(SYSLOG_TCP, [C(line)]))).toBe('confirmed');
    expect(verdict(feed(SYSLOG_TCP, [C(line.slice(0, -1))]))).toBe('unsure');
    expect(verdict(feed(SYSLOG_TCP, [C(`${line.length} ${line}`)]))).toBe('confirmed');
    expect(verdict(feed(SYSLOG_TCP, [C(`${line.length + 1} ${line}`)]))).toBe('unsure');
    expect(verdict(feed(SYSLOG_TCP, [S(line)]))).toBe('rejected');
    expect(verdict(feed(SYSLOG_TCP, [C('9999999 <1>x')]))).toBe('rejected');
    expect(verdict(feed(SYSLOG_TCP, [C('12 x')]))).toBe('rejected');
  });
});

describe('stun', () => {
  const binding = hex('0001 0008 2112a442 000102030405060708090a0b 80220004 74657374');
  stands(STUN, { binding: [C(binding)] });

  test('any message with the cookie', () => {
    expect(verdict(feed(STUN, [C(binding)]))).toBe('confirmed');
    expect(suggested(STUN, [C(binding.subarray(0, 26))])).toBe(false);
    expect(suggested(STUN, [C(hex('0001 0000 2112a443 000102030405060708090a0b'))])).toBe(false);
    expect(suggested(STUN, [C(hex('8001 0000 2112a442 000102030405060708090a0b'))])).toBe(false);
  });
});

describe('radius', () => {
  const request = hex(`01 07 001a ${'5a'.repeat(16)} 01 06 6e656d6f`);
  stands(at(RADIUS, 1812), { request: [C(request)] });

  test('attributes fill the message, on a port of RADIUS', () => {
    expect(verdict(feed(RADIUS, [C(request)], undefined, 1812))).toBe('confirmed');
    expect(suggested(RADIUS, [C(request)], 1812)).toBe(true);
    expect(suggested(RADIUS, [C(request)], 40_000)).toBe(false);
    expect(suggested(RADIUS, [C(hex(`01 07 001a ${'5a'.repeat(16)} 01 07 6e656d6f`))], 1812)).toBe(false);
    expect(suggested(RADIUS, [C(hex(`01 07 001a ${'5a'.repeat(16)} 01 00 6e656d6f`))], 1812)).toBe(false);
  });
});
