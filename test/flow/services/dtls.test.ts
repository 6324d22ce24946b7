import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  clientHello,
  full,
  message,
  record,
  serverHello,
  serverHello13,
  u24,
} from '../../../lab/dtls-build.ts';
import { DTLS } from '../../../src/flow/services/dtls.ts';
import { ServiceNews } from '../../../src/flow/services/service.ts';
import { C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

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

describe('handshakes of OpenSSL', () => {
  const { handshakes } = JSON.parse(
    readFileSync(new URL('../fixtures/dtls.json', import.meta.url), 'utf8'),
  ) as { handshakes: Record<string, [0 | 1, string][]> };
  const said = (name: string): Said[] =>
    handshakes[name].map(([from, text]) => [from, Buffer.from(text, 'base64')]);
  stands(DTLS, Object.fromEntries(Object.keys(handshakes).map((name) => [name, said(name)])));

  test.each([
    ['1.2', 0xfefd, 'CvCsxknGIti'],
    ['1.2 with -listen and -mtu 400', 0xfefd, 'CvCsxknGIti'],
    ['1.0', 0xfeff, 'CvCsxknGIti'],
  ])('%s', (name, version, history) => {
    const { bits, parser } = feed(DTLS, said(name));
    expect(bits & ServiceNews.established).not.toBe(0);
    expect(parser.tls).toMatchObject({
      version,
      history,
      serverName: 'dtls.sluice.test',
      resumed: false,
      curve: 29,
    });
  });

  test('not established by one side alone', () => {
    for (const from of [0, 1]) {
      const { bits } = feed(
        DTLS,
        said('1.2').filter(([side]) => side === from),
      );
      expect(bits & ServiceNews.established).toBe(0);
    }
  });
});
