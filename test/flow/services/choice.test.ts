import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Choice, oneOf } from '../../../src/flow/services/choice.ts';
import { CHOICES, SERVICES } from '../../../src/flow/services/index.ts';
import { Recognition } from '../../../src/flow/services/recognition.ts';
import { ServiceNews } from '../../../src/flow/services/service.ts';
import { examples, withoutExample } from './examples.ts';
import { bytesOf, C, hex, S, type Said } from './support.ts';

/** What services are found in a conversation that all recognizers look at, cut into pieces of such sizes. */
function found(
  transport: 'tcp' | 'udp',
  said: readonly Said[],
  port: number,
  chunk: () => number = () => 1e9,
): string {
  const recognition = new Recognition();
  recognition.begin(CHOICES[transport], port);
  for (const [from, text] of said) {
    const bytes = bytesOf(text);
    for (let at = 0; at < bytes.length; ) {
      const size = Math.min(bytes.length - at, Math.max(1, chunk()));
      recognition.feed(from, bytes, at, size);
      at += size;
    }
  }
  return recognition.names.join(',');
}

const SMTP_INSIDE: readonly Said[] = [S('220 x ESMTP\r\n'), C('HELO y\r\n'), S('250 x\r\n')];

describe('all recognizers together', () => {
  test('find what every example is, and every one of them is in an example', async () => {
    const all = await examples();
    expect(withoutExample(all)).toEqual([]);
    for (const { transport, said, respPort, found: name } of all)
      expect(found(transport, said, respPort), JSON.stringify(said[0])).toBe(name);
  });

  test('whatever the pieces', async () => {
    const streams = (await examples()).filter(({ transport }) => transport === 'tcp');
    fc.assert(
      fc.property(
        fc.constantFrom(...streams),
        fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 10 }),
        ({ found: name, said, respPort }, sizes) => {
          let i = 0;
          expect(found('tcp', said, respPort, () => sizes[i++ % sizes.length])).toBe(name);
        },
      ),
      { numRuns: 600 },
    );
  });

  test('a proxy, and what goes through it', () => {
    const socks: Said[] = [C(hex('04 01 0019 0a000001 00')), S(hex('00 5a 0000 00000000'))];
    expect(found('tcp', [...socks, ...SMTP_INSIDE], 1080)).toBe('socks,smtp');
    const glued: Said[] = [
      socks[0],
      S(Buffer.concat([bytesOf(socks[1][1]), bytesOf(SMTP_INSIDE[0][1])])),
      ...SMTP_INSIDE.slice(1),
    ];
    expect(found('tcp', glued, 1080)).toBe('socks,smtp');
  });

  test('TLS that is started inside of another protocol is seen as established', async () => {
    const inside = (await examples()).filter(({ found }) => found.endsWith(',ssl'));
    const carriers = new Set(inside.map(({ found }) => found.split(',')[0]));
    expect([...carriers].toSorted()).toEqual(
      'ftp http imap irc ldap_tcp mysql nntp pop3 postgresql quic rdp sieve smtp socks tds xmpp'.split(' '),
    );
    for (const { transport, said, respPort, found } of inside) {
      const recognition = new Recognition();
      recognition.begin(new Choice(SERVICES.filter((service) => service.transport === transport)), respPort);
      let news = 0;
      for (const [from, text] of said) {
        const bytes = bytesOf(text);
        news |= recognition.feed(from, bytes, 0, bytes.length);
      }
      expect(news & ServiceNews.established, found).not.toBe(0);
      expect(recognition.tls, found).toMatchObject({ established: true, serverName: 'quic.sluice.test' });
    }
  });

  test('a violation takes the name off again', () => {
    const said: Said[] = [S('220 x\r\n'), C('USER y\r\n'), S('331 ok\r\n'), C('SYST\r\n'), S('no idea\r\n')];
    expect(found('tcp', said, 21)).toBe('');
  });

  test('random bytes are nothing', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<'tcp' | 'udp'>('tcp', 'udp'),
        fc.array(
          fc.tuple(fc.constantFrom<0 | 1>(0, 1), fc.uint8Array({ minLength: 20, maxLength: 400, max: 255 })),
          { minLength: 1, maxLength: 6 },
        ),
        (transport, said) => {
          expect(found(transport, said, 4242)).toBe('');
        },
      ),
      { numRuns: 2000 },
    );
  });
});

/** How many services are asked about a first byte. */
const asked = (transport: 'tcp' | 'udp', side: 0 | 1) => {
  const { length: all } = SERVICES.filter((service) => service.transport === transport);
  const counts = Array.from({ length: 256 }, (_, first) => CHOICES[transport].of(first, side).length);
  return {
    most: Math.max(...counts),
    mean: counts.reduce((sum, n) => sum + n, 0) / 256,
    all,
  };
};

describe('the choice by the first byte', () => {
  const byte = fc.nat(255);
  const begin = fc.uint8Array({ maxLength: 60 });

  test('leaves out only what the first bytes rule out', async () => {
    const all = await examples();
    const said = all.flatMap((example) => example.said.map(([, text]) => bytesOf(text)));
    fc.assert(
      fc.property(fc.constantFrom(...said), byte, begin, fc.nat(80), (bytes, first, tail, keep) => {
        const pieces = [bytes, Buffer.concat([Uint8Array.of(first), bytes.subarray(1, keep), tail])];
        for (const piece of pieces)
          for (const side of [0, 1] as const)
            for (const port of [0, 53, 123, 1812, 4500, 6379])
              for (const service of SERVICES)
                if (service.looksLike(piece, 0, piece.length, side, port))
                  expect(service.first?.(piece[0], side) ?? true, `${service.name}: ${piece[0]}`).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  test('one byte of a stream that suggests a service is one of its first bytes, whatever the port', () => {
    for (let first = 0; first < 256; first++)
      for (const service of SERVICES)
        for (const side of [0, 1] as const)
          for (const port of [0, 53, 80, 123, 6379, 4500])
            if (service.looksLike(Uint8Array.of(first), 0, 1, side, port))
              expect(service.first?.(first, side) ?? true, `${service.name} ${side} ${first}`).toBe(true);
  });

  test('what is asked does not grow with the number of services', () => {
    for (const transport of ['tcp', 'udp'] as const) {
      for (const side of [0, 1] as const) {
        const { most, mean, all } = asked(transport, side);
        expect(most, transport).toBeLessThanOrEqual(7);
        expect(mean, transport).toBeLessThan(all / 4);
      }
    }
    const many = Array.from({ length: 500 }, (_, i) => ({ ...SERVICES[0], first: oneOf(i % 256) }));
    expect(new Choice(many).of(7, 1)).toHaveLength(2);
  });
});
