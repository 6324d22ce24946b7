import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { answer, ENCRYPT, inPackets, PRELOGIN, packet } from '../../../lab/tds-build.ts';
import { CHOICES } from '../../../src/flow/services/index.ts';
import { Recognition, RecognitionNews } from '../../../src/flow/services/recognition.ts';
import { ServiceNews } from '../../../src/flow/services/service.ts';
import { TDS } from '../../../src/flow/services/tds.ts';
import { capture } from '../tls-capture.ts';
import { bytesOf, C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const begun = (encryption: number): Said[] => [C(PRELOGIN), S(answer(encryption))];
const login = packet(0x10, Buffer.alloc(120, 1));
const NAME = 'sql.sluice.test';

/** OpenSSL's handshake, and data of both sides behind it. */
async function handshake(version: 'TLSv1.2' | 'TLSv1.3'): Promise<Said[]> {
  const { pieces } = await capture({ servername: NAME, minVersion: version, maxVersion: version }, {}, 6000);
  // The client is 0 there.
  return pieces.map(({ from, bytes }): Said => [from === 0 ? 1 : 0, bytes]);
}

const handshakes = await Promise.all([handshake('TLSv1.2'), handshake('TLSv1.3')]);

/** All that one side says. */
const whole = (said: readonly Said[], side: 0 | 1) =>
  Buffer.concat(said.filter(([from]) => from === side).map(([, text]) => bytesOf(text)));

/** What all recognizers together make of it, in pieces of such sizes. */
function recognize(said: readonly Said[], chunk: () => number = () => 1e9) {
  const recognition = new Recognition();
  recognition.begin(CHOICES.tcp, 1433);
  let news = 0;
  for (const [from, text] of said) {
    const bytes = bytesOf(text);
    for (let at = 0; at < bytes.length && (news & RecognitionNews.done) === 0; ) {
      const size = Math.min(bytes.length - at, Math.max(1, chunk()));
      news |= recognition.feed(from, bytes, at, size);
      at += size;
    }
  }
  return {
    names: recognition.names.join(','),
    established: (news & ServiceNews.established) !== 0,
    serverName: recognition.tls?.serverName,
  };
}

const ESTABLISHED = { names: 'tds,ssl', established: true, serverName: NAME };
const PLAIN = { names: 'tds', established: false, serverName: undefined };

describe('tds', () => {
  stands(TDS, {
    all: begun(ENCRYPT.on),
    required: begun(ENCRYPT.required),
    login: [...begun(ENCRYPT.off), C(packet(0x12, Buffer.alloc(99, 22)))],
    plain: [...begun(ENCRYPT.notSupported), C(login)],
  });

  test('confirmed by a PRELOGIN and its answer', () => {
    expect(verdict(feed(TDS, [C(PRELOGIN)]))).toBe('unsure');
    expect(verdict(feed(TDS, [...begun(ENCRYPT.notSupported), C(login)]))).toBe('confirmed');
    expect(verdict(feed(TDS, begun(ENCRYPT.off)))).toBe('confirmed');
  });

  test('hands over where all is encrypted, whatever is said of certificates of clients', () => {
    for (const encryption of [ENCRYPT.on, ENCRYPT.required, 0x80 | ENCRYPT.on, 0x80 | ENCRYPT.required])
      expect(verdict(feed(TDS, begun(encryption)))).toBe('confirmed, hands over');
    for (const encryption of [ENCRYPT.off, ENCRYPT.notSupported, 0x80, 9])
      expect(verdict(feed(TDS, begun(encryption)))).toBe('confirmed');
  });

  test('an answer that says nothing of encryption: plain', () => {
    const silent = packet(0x04, hex('00 0006 0006 ff 0f000738 0000'));
    expect(verdict(feed(TDS, [C(PRELOGIN), S(silent)]))).toBe('confirmed');
  });

  test('TLS is established', () => {
    for (const tls of handshakes)
      for (const encryption of [ENCRYPT.on, ENCRYPT.required])
        for (const most of [40, 100, 1000, 4088])
          for (const size of [50, 1460])
            expect(recognize([...begun(encryption), ...inPackets(tls, most)], () => size)).toEqual(
              ESTABLISHED,
            );
  });

  test('what is in the packets, whatever their size and that of the pieces', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...handshakes),
        fc.integer({ min: 1, max: 300 }),
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 10 }),
        (tls, most, sizes) => {
          const { parser } = feed(TDS, begun(ENCRYPT.on));
          const got: Said[] = [];
          let i = 0;
          for (const [from, text] of inPackets(tls, most)) {
            const bytes = bytesOf(text);
            for (let at = 0; at < bytes.length; ) {
              const size = Math.min(bytes.length - at, sizes[i++ % sizes.length]);
              const news = parser.unwrap?.(from, bytes, at, size, (side, u8, offset, length) => {
                got.push([side, Uint8Array.from(u8.subarray(offset, offset + length))]);
              });
              expect(news).toBe(0);
              at += size;
            }
          }
          for (const side of [0, 1] as const) expect(whole(got, side).equals(whole(tls, side))).toBe(true);
        },
      ),
    );
  });

  test('a packet of the handshake in one piece with the answer', () => {
    const [[, hello], ...rest] = inPackets(handshakes[0]);
    const both = Buffer.concat([answer(ENCRYPT.on), packet(0x12, Buffer.alloc(0))]);
    expect(recognize([C(PRELOGIN), S(both), C(hello), ...rest])).toEqual(ESTABLISHED);
  });

  test('servers that answer in packets of their other type', () => {
    const other = inPackets(handshakes[0]).map(([from, text]): Said => {
      const bytes = Buffer.from(bytesOf(text));
      if (from === 0 && bytes[0] === 0x12) bytes[0] = 0x04;
      return [from, bytes];
    });
    expect(recognize([...begun(ENCRYPT.on), ...other])).toEqual(ESTABLISHED);
  });

  test('where the login alone is encrypted, and where nothing is, TLS is not established', () => {
    for (const encryption of [ENCRYPT.off, ENCRYPT.notSupported, 0x80])
      for (const tls of handshakes)
        expect(recognize([...begun(encryption), ...inPackets(tls)])).toEqual(PLAIN);
  });

  test('no TLS where it was agreed upon: nothing, and nothing is looked for any more', () => {
    for (const odd of [
      login,
      packet(0x12, Buffer.from('GET / HTTP/1.1\r\n\r\n')),
      hex('12 01 0004 0000 00 00'),
    ])
      expect(recognize([...begun(ENCRYPT.on), C(odd), S(odd)])).toEqual(PLAIN);
  });

  test('any bytes where the handshake should be never throw', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...handshakes),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 }),
        fc.array(fc.tuple(fc.constantFrom<0 | 1>(0, 1), fc.uint8Array({ maxLength: 300 })), { maxLength: 6 }),
        fc.integer({ min: 1, max: 500 }),
        (tls, errors, noise, size) => {
          const packets = inPackets(tls).map(([from, text]): Said => [from, Buffer.from(bytesOf(text))]);
          for (const [at, value] of errors) {
            const bytes = packets[at % packets.length][1] as Uint8Array;
            if (bytes.length > 0) bytes[(at >>> 4) % bytes.length] = value;
          }
          recognize([...begun(ENCRYPT.on), ...packets, ...noise], () => size);
          recognize([...begun(ENCRYPT.on), ...noise, ...packets], () => size);
        },
      ),
      { numRuns: 200 },
    );
  });

  test('other protocols', () => {
    expect(suggested(TDS, [C('GET / HTTP/1.1\r\n'), S(answer(ENCRYPT.on))])).toBe(false);
    expect(verdict(feed(TDS, [S(answer(ENCRYPT.on)), C(PRELOGIN)]))).toBe('rejected');
    expect(verdict(feed(TDS, [C(PRELOGIN), C(PRELOGIN)]))).toBe('rejected');
    expect(verdict(feed(TDS, [C(PRELOGIN), S('HTTP/1.1 400 Bad Request\r\n')]))).toBe('rejected');
    const broken = [
      ['the version is not first', '01 0006 0001 ff 000000000000'],
      ['no end', '00 0005 0006 010000000000 010000000000'],
      ['data outside', '00 0006 0006 01 0020 0001 ff 00000000000000'],
      ['no data', '00 000b 0006 01 000b 0000 ff 000000000000'],
    ] as const;
    for (const [why, text] of broken) {
      expect(verdict(feed(TDS, [C(packet(0x12, hex(text)))])), why).toBe('rejected');
      expect(verdict(feed(TDS, [C(PRELOGIN), S(packet(0x04, hex(text)))])), why).toBe('rejected');
    }
  });
});
