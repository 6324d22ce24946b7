import { describe, expect, test } from 'vitest';
import { DTLS } from '../../../src/flow/services/dtls.ts';
import { ServiceNews } from '../../../src/flow/services/service.ts';
import { C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const u16 = (value: number) => Buffer.of(value >> 8, value & 255);
const u24 = (value: number) => Buffer.of(value >> 16, (value >> 8) & 255, value & 255);

function record(type: number, body: Uint8Array, { epoch = 0, version = 0xfefd } = {}): Buffer {
  return Buffer.concat([Buffer.of(type), u16(version), u16(epoch), Buffer.alloc(6), u16(body.length), body]);
}

/** A handshake message, or the part of it that begins at `from`. */
function message(type: number, body: Uint8Array, from = 0, to = body.length): Buffer {
  return Buffer.concat([
    Buffer.of(type),
    u24(body.length),
    u16(0),
    u24(from),
    u24(to - from),
    body.subarray(from, to),
  ]);
}

const NAME = Buffer.from('dtls.sluice.test');
const serverName = Buffer.concat([
  u16(0),
  u16(NAME.length + 5),
  u16(NAME.length + 3),
  Buffer.of(0),
  u16(NAME.length),
  NAME,
]);

function clientHello(cookie = 0): Buffer {
  const extensions = Buffer.concat([serverName, hex('000a 0004 0002 001d')]);
  return Buffer.concat([
    hex(`fefd ${'11'.repeat(32)} 00`),
    Buffer.of(cookie),
    Buffer.alloc(cookie, 5),
    hex('0004 c02b c02f 01 00'),
    u16(extensions.length),
    extensions,
  ]);
}

const serverHello = hex(
  `fefd ${'22'.repeat(32)} 00 c02b 00 0004 ff01 0000`.replace('0004 ff01 0000', '0005 ff01 0001 00'),
);
const serverHello13 = hex(`fefd ${'22'.repeat(32)} 00 1301 00 0006 002b 0002 fefc`);
const finished = record(22, Buffer.alloc(40, 9), { epoch: 1 });
const change = record(20, Buffer.of(1));

const full: Said[] = [
  C(record(22, message(1, clientHello()), { version: 0xfeff })),
  S(record(22, message(3, hex('fefd 04 01020304')), { version: 0xfeff })),
  C(record(22, message(1, clientHello(20)), { version: 0xfeff })),
  S(Buffer.concat([record(22, message(2, serverHello)), record(22, message(14, Buffer.alloc(0)))])),
  C(Buffer.concat([record(22, message(16, Buffer.alloc(33))), change, finished])),
  S(Buffer.concat([change, finished])),
];

describe('dtls', () => {
  stands(DTLS, { full });

  test('confirmed by the ServerHello, established when both have finished', () => {
    expect(verdict(feed(DTLS, full.slice(0, 3)))).toBe('unsure');
    expect(verdict(feed(DTLS, full.slice(0, 4)))).toBe('confirmed');
    expect(feed(DTLS, full.slice(0, 5)).bits & ServiceNews.established).toBe(0);
    const { bits, parser } = feed(DTLS, full);
    expect(bits & ServiceNews.established).not.toBe(0);
    expect(parser.tls).toMatchObject({
      version: 0xfefd,
      cipher: 0xc02b,
      serverName: 'dtls.sluice.test',
      established: true,
      resumed: false,
      history: 'CvCsnGIi',
    });
    expect(parser.tls?.ja4).toMatch(/^dd2d0202/);
  });

  test('version 1.3: encrypted records of both', () => {
    const cipher = Buffer.concat([Buffer.of(0x2e), Buffer.alloc(60, 3)]);
    const said: Said[] = [
      full[2],
      S(Buffer.concat([record(22, message(2, serverHello13)), cipher])),
      C(cipher),
    ];
    const { bits, parser } = feed(DTLS, said);
    expect(bits & ServiceNews.established).not.toBe(0);
    expect(parser.tls?.version).toBe(0xfefc);
    expect(verdict(feed(DTLS, [full[0], S(cipher)]))).toBe('rejected');
  });

  test('hellos in fragments, in order; what is missing is sent again', () => {
    const hello = clientHello(20);
    const parts = [0, 30, 60].map((from, i) =>
      C(record(22, message(1, hello, from, [30, 60, hello.length][i]))),
    );
    expect(verdict(feed(DTLS, [...parts, full[3]]))).toBe('confirmed');
    expect(feed(DTLS, [...parts, full[3]]).parser.tls?.serverName).toBe('dtls.sluice.test');
    expect(feed(DTLS, [parts[1], parts[0], parts[2], full[3]]).parser.tls?.serverName).toBeUndefined();
    expect(feed(DTLS, [parts[1], parts[0], parts[2], ...parts, full[3]]).parser.tls?.serverName).toBe(
      'dtls.sluice.test',
    );
  });

  test.each([
    ['a record that is longer than its datagram', record(22, message(1, clientHello())).subarray(0, 60)],
    [
      'a fragment beyond its message',
      record(22, Buffer.concat([message(1, clientHello()).subarray(0, 9), u24(5000)])),
    ],
    ['a hello from the wrong side', record(22, message(2, serverHello))],
    ['a body that is none', record(22, message(1, Buffer.alloc(60)))],
  ])('rejected: %s', (_what, bytes) => {
    expect(verdict(feed(DTLS, [full[0], C(bytes)]))).toBe('rejected');
  });

  test('data, or TLS over TCP, does not suggest it', () => {
    expect(suggested(DTLS, [C(record(23, Buffer.alloc(40)))])).toBe(false);
    expect(suggested(DTLS, [C(record(22, message(1, clientHello()), { version: 0x0303 }))])).toBe(false);
    expect(suggested(DTLS, [C(record(22, message(1, clientHello()), { epoch: 1 }))])).toBe(false);
  });
});
