import { describe, expect, test } from 'vitest';
import { HTTP } from '../../../src/flow/services/http.ts';
import { ServiceNews } from '../../../src/flow/services/service.ts';
import { WebSocketFrames } from '../../../src/flow/services/websocket.ts';
import { C, feed, S, type Said, stands, verdict } from './support.ts';

const get: Said[] = [
  C('GET /index.html HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: x\r\n\r\n'),
  S('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc'),
];
const connect: Said[] = [
  C('CONNECT mail.example.org:25 HTTP/1.1\r\nHost: mail.example.org\r\n\r\n'),
  S('HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n220 mail'),
];
const asked: Said[] = [
  C('CONNECT a.example:443 HTTP/1.1\r\n\r\n'),
  S('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n'),
  C('CONNECT a.example:443 HTTP/1.1\r\nProxy-Authorization: Basic x\r\n\r\n'),
];
const upgrade: Said[] = [
  C('GET /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n'),
  S('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n'),
];
const refused: Said[] = [upgrade[0], S('HTTP/1.1 400 Bad Request\r\n\r\n')];
const interim: Said[] = [
  C('POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n'),
  S('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n'),
];

describe('http', () => {
  stands(HTTP, { get, connect, upgrade, refused, interim, asked });

  test('confirmed by a reply to a request, on a port of HTTP by the request', () => {
    expect(verdict(feed(HTTP, get))).toBe('confirmed');
    expect(verdict(feed(HTTP, get.slice(0, 1)))).toBe('unsure');
    expect(verdict(feed(HTTP, get.slice(0, 1), undefined, 8080))).toBe('confirmed');
    expect(verdict(feed(HTTP, interim))).toBe('confirmed');
  });

  test('a reply that is none takes it back', () => {
    expect(verdict(feed(HTTP, [get[0], S('SSH-2.0-OpenSSH_9.6\r\n')], undefined, 80))).toContain('rejected');
    expect(verdict(feed(HTTP, [S('HTTP/1.1 200 OK\r\n\r\n')]))).toBe('rejected');
  });

  test.each([
    'EHLO mail.example.org\r\n',
    'USER anonymous\r\n',
    'INVITE sip:a@example.org SIP/2.0\r\n',
    'get x\r\n',
    'GET\r\n',
    'GET x\r\n',
  ])('not %j', (line) => {
    expect(verdict(feed(HTTP, [C(line), S('220 x\r\n')]))).toBe('rejected');
  });

  test('version 0.9', () => {
    expect(verdict(feed(HTTP, [C('GET /\r\n'), S('<html>')]))).toBe('confirmed');
  });

  test('CONNECT hands over right behind the header', () => {
    const outcome = feed(HTTP, connect);
    expect(verdict(outcome)).toBe('confirmed, hands over');
    expect(outcome.parser.rest).toBe('220 mail'.length);
    expect(outcome.parser.unwrap).toBeUndefined();
  });

  test('CONNECT that asks for a password first', () => {
    expect(verdict(feed(HTTP, asked))).toBe('confirmed');
    expect(verdict(feed(HTTP, [...asked, S('HTTP/1.1 200 OK\r\n\r\n')]))).toBe('confirmed, hands over');
  });

  test('a websocket is named, and unwraps what follows', () => {
    const outcome = feed(HTTP, upgrade);
    expect(verdict(outcome)).toBe('confirmed, hands over');
    expect(outcome.parser.inside).toEqual(['http', 'websocket']);
    expect(outcome.parser.unwrap).toBeDefined();
    expect(verdict(feed(HTTP, refused))).toBe('confirmed');
  });

  test('a header without end is given up', () => {
    const lines = Array.from({ length: 2000 }, (_, i) => `X-${i}: y\r\n`).join('');
    expect(verdict(feed(HTTP, [C(`GET / HTTP/1.1\r\n${lines}`)]))).toBe('rejected');
    expect(verdict(feed(HTTP, [C(`GET /${'x'.repeat(100_000)} HTTP/1.1\r\n\r\n`), get[1]]))).toBe(
      'confirmed',
    );
  });
});

/** A frame of RFC 6455. */
function frame(opcode: number, payload: Uint8Array, mask?: number[], first = 0x80): Uint8Array {
  const size = payload.length;
  const length =
    size < 126
      ? [size]
      : size < 65_536
        ? [126, size >> 8, size & 255]
        : [127, 0, 0, 0, 0, 0, size >> 16, (size >> 8) & 255, size & 255];
  if (mask !== undefined) length[0] |= 0x80;
  const body = mask === undefined ? payload : payload.map((byte, i) => byte ^ mask[i & 3]);
  return Uint8Array.from([first | opcode, ...length, ...(mask ?? []), ...body]);
}

function unwrap(bytes: Uint8Array, size: number): { out: Buffer; news: number } {
  const frames = new WebSocketFrames();
  const parts: Uint8Array[] = [];
  let news = 0;
  for (let at = 0; at < bytes.length; at += size)
    news |= frames.unwrap(1, bytes, at, Math.min(size, bytes.length - at), (_from, u8, offset, length) => {
      parts.push(u8.slice(offset, offset + length));
    });
  return { out: Buffer.concat(parts), news };
}

describe('websocket', () => {
  test.each([1, 2, 7, 4096, 1e9])('frames of every length, masked and not, in pieces of %d bytes', (size) => {
    const payloads = [0, 5, 125, 126, 4095, 65_535, 70_001].map((n) =>
      Uint8Array.from({ length: n }, (_, i) => (i * 7 + n) & 255),
    );
    const wire = Buffer.concat(
      payloads.flatMap((payload, i) => [
        frame(i % 3, payload, i % 2 === 0 ? [1, 2, 3, 250] : undefined),
        frame(9, Uint8Array.of(1, 2, 3), [9, 9, 9, 9]),
      ]),
    );
    const { out, news } = unwrap(wire, size);
    expect(Buffer.compare(out, Buffer.concat(payloads))).toBe(0);
    expect(news).toBe(0);
  });

  test.each([
    ['close', frame(8, Uint8Array.of(3, 232))],
    ['compressed', frame(1, Uint8Array.of(1), undefined, 0xc0)],
    ['unknown opcode', frame(5, Uint8Array.of(1))],
    ['a length of 2^63', Uint8Array.from([0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0])],
  ])('ends at %s', (_what, last) => {
    const { out, news } = unwrap(
      Buffer.concat([frame(2, Buffer.from('ab')), last, frame(2, Buffer.from('c'))]),
      3,
    );
    expect(out.toString()).toBe('ab');
    expect(news & ServiceNews.done).not.toBe(0);
  });
});
