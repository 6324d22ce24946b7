import { describe, expect, test } from 'vitest';
import { DNS, DNS_TCP, isDnsViolation } from '../../../src/flow/services/dns.ts';
import { type Service, ServiceNews } from '../../../src/flow/services/service.ts';
import { C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const NAME = '03777777076578616d706c65036f726700';
const query = hex(`1234 0100 0001 0000 0000 0000 ${NAME} 0001 0001`);
const response = hex(`1234 8180 0001 0001 0000 0000 ${NAME} 0001 0001 c00c 0001 0001 00000e10 0004 c0000201`);
const edns = hex(`1234 0120 0001 0000 0000 0001 ${NAME} 0001 0001 00 0029 04d0 0000 0000 0000`);
/** A name service registration of NetBIOS. */
const netbios = hex(
  `9abc 2910 0001 0000 0000 0001 20 ${'46 41'.repeat(16)} 00 0020 0001 c00c 0020 0001 000493e0 0006 0000 c0a80101`,
);
/** An answer of multicast DNS, without a question. */
const multicast = hex(`0000 8400 0000 0001 0000 0000 ${NAME} 0001 8001 00000078 0004 c0a80101`);

const at = (service: Service, port: number): Service => ({
  ...service,
  looksLike: (u8, offset, length, from) => service.looksLike(u8, offset, length, from, port),
  parser: () => service.parser(port),
});

function framed(message: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(message.length >> 8, message.length & 255), message]);
}

const exchange: Said[] = [C(query), S(response)];

describe('dns over UDP', () => {
  stands(DNS, { exchange, edns: [C(edns), S(response)] });
  stands(at(DNS, 53), { query: [C(query)], netbios: [C(netbios)], multicast: [C(multicast)] });

  test('one message is enough on a port of DNS, elsewhere it takes the response to the query', () => {
    for (const message of [query, edns, netbios]) {
      expect(verdict(feed(at(DNS, 53), [C(message)]))).toBe('confirmed');
    }
    expect(verdict(feed(DNS, [C(query)]))).toBe('unsure');
    expect(verdict(feed(DNS, exchange))).toBe('confirmed');
    expect(verdict(feed(DNS, [C(query), S(Buffer.concat([Uint8Array.of(1), response.subarray(1)]))]))).toBe(
      'rejected',
    );
  });

  test('a response that comes first turns the direction', () => {
    expect(feed(at(DNS, 53), [C(response)]).bits & ServiceNews.flip).not.toBe(0);
    expect(feed(at(DNS, 53), [S(response)]).bits & ServiceNews.flip).toBe(0);
    expect(feed(at(DNS, 53), [C(query)]).bits & ServiceNews.flip).toBe(0);
  });

  test('an answer that was cut off counts on a port of DNS', () => {
    expect(suggested(at(DNS, 53), [S(response.subarray(0, response.length - 2))])).toBe(true);
    expect(suggested(DNS, [S(response.subarray(0, response.length - 2))])).toBe(false);
  });

  test.each([
    ['a name that points to itself', hex('1234 0100 0001 0000 0000 0000 c00c 0001 0001')],
    ['a name that points forward', hex('1234 0100 0001 0000 0000 0000 c0ff 0001 0001')],
    ['a label of 64 bytes', hex(`1234 0100 0001 0000 0000 0000 40${'61'.repeat(64)}00 0001 0001`)],
    [
      'a name of more than 255 bytes',
      hex(`1234 0100 0001 0000 0000 0000 ${`3f${'61'.repeat(63)}`.repeat(5)}00 0001 0001`),
    ],
    ['26 questions', hex(`1234 0100 001a 0000 0000 0000 ${`${NAME}00010001`.repeat(26)}`)],
    ['nothing but a header', hex('1234 0100 0000 0000 0000 0000')],
    ['half a header', hex('1234 0100 0001')],
  ])('not %s', (_what, bytes) => {
    expect(suggested(at(DNS, 53), [C(bytes)])).toBe(false);
  });

  test('too many questions end the timer of DNS', () => {
    expect(isDnsViolation(hex('1234 0100 001a 0000 0000 0000'), 0, 12)).toBe(true);
    expect(isDnsViolation(hex('1234 0100 0019 0000 0000 0000'), 0, 12)).toBe(false);
    expect(isDnsViolation(hex('1234 0100 ffff'), 0, 6)).toBe(false);
  });
});

describe('dns over TCP', () => {
  const long = hex(
    `1234 8180 0001 0064 0000 0000 ${NAME} 0010 0001 ${`c00c 0010 0001 00000e10 0064 ${'61'.repeat(100)}`.repeat(100)}`,
  );
  stands(at(DNS_TCP, 53), {
    exchange: [C(framed(query)), S(framed(response))],
    long: [S(framed(long))],
  });

  test('confirmed by a whole message', () => {
    expect(verdict(feed(at(DNS_TCP, 53), [C(framed(query))]))).toBe('confirmed');
    expect(verdict(feed(at(DNS_TCP, 53), [C(framed(query).subarray(0, 20))]))).toBe('unsure');
    expect(verdict(feed(at(DNS_TCP, 53), [S(framed(long))]))).toBe('confirmed');
    expect(verdict(feed(at(DNS_TCP, 53), [C(framed(response.subarray(0, -4)))]))).toBe('rejected');
    expect(verdict(feed(at(DNS_TCP, 53), [C(Uint8Array.of(0, 5, 1, 2, 3, 4, 5))]))).toBe('rejected');
  });

  test('only on ports of DNS: there is no mark of its own', () => {
    expect(suggested(DNS_TCP, [C(framed(query))], 853)).toBe(false);
  });
});
