import { beforeAll, describe, expect, test } from 'vitest';
import {
  CLIENT_ID,
  crypto,
  DRAFT29,
  extract,
  handshake,
  initial,
  label,
  SALTS,
  SERVER_ID,
  short,
  V1,
  V2,
} from '../../../lab/quic-build.ts';
import { QUIC } from '../../../src/flow/services/quic.ts';
import { InitialKeys, initialSecret, quicVersion } from '../../../src/flow/services/quic-crypto.ts';
import { CryptoStream, readFrames } from '../../../src/flow/services/quic-frames.ts';
import { ServiceNews } from '../../../src/flow/services/service.ts';
import { capture } from '../tls-capture.ts';
import { C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

let clientHello = new Uint8Array(0);
let serverHello = new Uint8Array(0);

beforeAll(async () => {
  const tls = await capture(
    { servername: 'quic.sluice.test', minVersion: 'TLSv1.3', ALPNProtocols: ['h3'] },
    { ALPNProtocols: ['h3'] },
  );
  // Without the header of the record.
  const hello = (from: 0 | 1) => {
    const bytes = Buffer.concat(
      tls.pieces.filter((piece) => piece.from === from).map((piece) => piece.bytes),
    );
    return Uint8Array.from(bytes.subarray(5, 5 + bytes.readUInt16BE(3)));
  };
  clientHello = hello(0);
  serverHello = hello(1);
});

const withAck = (frames: Uint8Array) => Buffer.concat([hex('02 00 40ff 01 00 03 01'), Buffer.of(1), frames]);

test('keys of RFC 9001, appendix A.1', () => {
  const secret = label(extract(SALTS.get(V1) ?? '', CLIENT_ID), 'client in', 32);
  expect(label(secret, 'quic key', 16).toString('hex')).toBe('1f369613dd76d5467730efcbe3b1a22d');
  expect(label(secret, 'quic iv', 12).toString('hex')).toBe('fa044b2f42a3fd3b46fb255c');
  expect(label(secret, 'quic hp', 16).toString('hex')).toBe('9f50449e04a0e810283a1e9933adedd2');
});

describe('quic', () => {
  test.each([V1, V2, DRAFT29])('version %d: names, SNI and version', (version) => {
    const outcome = feed(QUIC, [
      C(initial(crypto(0, clientHello), { version })),
      S(initial(withAck(crypto(0, serverHello)), { from: 0, version })),
      S(short),
      C(short),
    ]);
    expect(verdict(outcome)).toBe('confirmed');
    expect(outcome.bits & ServiceNews.established).not.toBe(0);
    expect(outcome.parser.inside).toEqual(['quic', 'ssl']);
    expect(outcome.parser.tls).toMatchObject({
      version: 0x0304,
      serverName: 'quic.sluice.test',
      established: true,
      history: 'Cs',
    });
    expect(outcome.parser.tls?.ja4).toMatch(/^q13d.*h3_/);
    expect(outcome.parser.tls?.cipher).toBeGreaterThan(0x1300);
  });

  test('a ClientHello in pieces, over packets and out of order', () => {
    const [a, b, c] = [clientHello.subarray(0, 60), clientHello.subarray(60, 200), clientHello.subarray(200)];
    const said: Said[] = [
      C(initial(Buffer.concat([crypto(60, b)]), { number: 1 })),
      C(initial(Buffer.concat([crypto(200, c), crypto(60, b)]), { number: 2 })),
      C(initial(crypto(0, a), { number: 300 })),
    ];
    expect(feed(QUIC, said.slice(0, 2)).parser.inside).toEqual(['quic']);
    expect(feed(QUIC, said).parser.inside).toEqual(['quic', 'ssl']);
    expect(feed(QUIC, said).parser.tls?.serverName).toBe('quic.sluice.test');
  });

  test('several packets in a datagram, a token, what came before the Initial', () => {
    const packets = Buffer.concat([initial(crypto(0, clientHello), { token: 70 }), handshake, short]);
    expect(feed(QUIC, [C(handshake), C(packets)]).parser.inside).toEqual(['quic', 'ssl']);
  });

  test('after Retry the client begins again with the new id', () => {
    const retry = hex(`f0 00000001 00 08 f067a5502a4262b5 ${'77'.repeat(40)}`);
    const said: Said[] = [
      C(initial(crypto(0, clientHello))),
      S(retry),
      C(initial(crypto(0, clientHello), { keyId: SERVER_ID, token: 40, number: 1 })),
      S(initial(crypto(0, serverHello), { from: 0, keyId: SERVER_ID })),
    ];
    expect(feed(QUIC, said).parser.tls).toMatchObject({ version: 0x0304, serverName: 'quic.sluice.test' });
  });

  test('what does not decrypt is not QUIC', () => {
    const bad = initial(crypto(0, clientHello));
    bad[bad.length - 1] ^= 1;
    expect(verdict(feed(QUIC, [C(bad)]))).toBe('unsure');
    expect(verdict(feed(QUIC, [C(bad), C(bad), C(bad), C(bad)]))).toBe('rejected');
    expect(suggested(QUIC, [S(initial(crypto(0, clientHello)))])).toBe(false);
    expect(suggested(QUIC, [C(hex('c0 00000002 08 0000000000000000 00 00'))])).toBe(false);
    expect(suggested(QUIC, [C(hex('c0 00000001 15 0000000000000000 00 00'))])).toBe(false);
  });

  test('it is not established before both use the final keys', () => {
    const said: Said[] = [
      C(short),
      C(initial(crypto(0, clientHello))),
      S(initial(crypto(0, serverHello), { from: 0 })),
      S(short),
    ];
    expect(feed(QUIC, said).parser.tls?.established).toBe(false);
    expect(feed(QUIC, [...said, C(short)]).parser.tls?.established).toBe(true);
  });

  test('any bytes inside of a packet that decrypts', () => {
    let seed = 1;
    const random = () => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return seed >>> 16;
    };
    for (let run = 0; run < 200; run++) {
      const frames = Buffer.from(
        Array.from({ length: random() % 300 }, () => (random() % 3 === 0 ? 6 : random() & 255)),
      );
      feed(QUIC, [
        C(initial(frames)),
        S(initial(frames, { from: 0 })),
        C(initial(crypto(random() % 100, frames))),
      ]);
    }
  });
});

describe('quic, as all recognizers', () => {
  stands(QUIC, {
    empty: [C(initial(Buffer.of(1))), S(initial(withAck(Buffer.of(1)), { from: 0 })), C(short), C(handshake)],
    bare: [C(handshake), S(short)],
  });
});

test('the keys open only what was protected with them', () => {
  const packet = initial(Buffer.of(1));
  const version = quicVersion(V1);
  if (version === undefined) throw new Error('no version 1');
  const number = packet.length - 16 - 1162 - 2;
  const open = (id: Uint8Array, bytes: Uint8Array) =>
    new InitialKeys(version, initialSecret(version, id), true).open(bytes, 0, number, bytes.length);
  expect(open(CLIENT_ID, packet)?.length).toBe(1162);
  expect(open(SERVER_ID, packet)).toBeUndefined();
  expect(open(CLIENT_ID, packet.subarray(0, number + 10))).toBeUndefined();
});

describe('CRYPTO frames', () => {
  test('are bounded', () => {
    const stream = new CryptoStream();
    expect(readFrames(crypto(16_000, Buffer.alloc(500)), stream)).toBe(false);
    expect(readFrames(crypto(1_000_000_000, Buffer.alloc(1)), stream)).toBe(false);
    let accepted = 0;
    while (accepted < 5000 && readFrames(crypto(accepted * 3, Buffer.alloc(1)), stream)) accepted++;
    expect(accepted).toBeLessThan(200);
    expect(readFrames(hex('02 00 00 7fff 00'), new CryptoStream())).toBe(false);
  });

  test('overlap and repeat', () => {
    const stream = new CryptoStream();
    const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
    for (const [from, to] of [
      [50, 60],
      [10, 20],
      [55, 90],
      [18, 52],
      [0, 10],
    ])
      expect(stream.add(from, bytes, from, to - from)).toBe(true);
    expect(stream.ready).toBe(90);
    expect([...stream.bytes.subarray(0, 90)]).toEqual([...bytes.subarray(0, 90)]);
  });
});
