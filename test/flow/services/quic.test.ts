import { createCipheriv, createHmac } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { QUIC } from '../../../src/flow/services/quic.ts';
import { InitialKeys, initialSecret, quicVersion } from '../../../src/flow/services/quic-crypto.ts';
import { CryptoStream, readFrames } from '../../../src/flow/services/quic-frames.ts';
import { ServiceNews } from '../../../src/flow/services/service.ts';
import { capture } from '../tls-capture.ts';
import { C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const V1 = 1;
const V2 = 0x6b3343cf;
const DRAFT29 = 0xff00001d;
const SALTS = new Map([
  [V1, '38762cf7f55934b34d179ae6a4c80cadccbb7f0a'],
  [V2, '0dede3def700a6db819381be6e269dcbf9bd2ed9'],
  [DRAFT29, 'afbfec289993d24c9e9786f19c6111e04390a899'],
]);
const CLIENT_ID = hex('8394c8f03e515708');
const SERVER_ID = hex('f067a5502a4262b5');

function label(secret: Uint8Array, text: string, bytes: number): Buffer {
  const info = Buffer.concat([
    Buffer.from([0, bytes, text.length + 6]),
    Buffer.from(`tls13 ${text}`),
    Buffer.of(0),
  ]);
  return createHmac('sha256', secret).update(info).update(Buffer.of(1)).digest().subarray(0, bytes);
}

function extract(salt: string, id: Uint8Array): Buffer {
  return createHmac('sha256', Buffer.from(salt, 'hex')).update(id).digest();
}

function varint(value: number): Buffer {
  if (value < 64) return Buffer.of(value);
  if (value < 16_384) return Buffer.of(0x40 | (value >> 8), value & 255);
  return Buffer.of(0x80 | (value >>> 24), (value >> 16) & 255, (value >> 8) & 255, value & 255);
}

function crypto(offset: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(6), varint(offset), varint(bytes.length), bytes]);
}

/** An Initial packet as RFC 9001 protects it. */
function initial(
  frames: Uint8Array,
  { from = 1, version = V1, number = 0, keyId = CLIENT_ID, token = 0 } = {},
): Buffer {
  const prefix = version === V2 ? 'quicv2' : 'quic';
  const secret = label(extract(SALTS.get(version) ?? '', keyId), from === 1 ? 'client in' : 'server in', 32);
  const padded = Buffer.concat([frames, Buffer.alloc(Math.max(0, 1162 - frames.length))]);
  const type = version === V2 ? 1 : 0;
  const [to, sender] = from === 1 ? [keyId, Buffer.alloc(0)] : [Buffer.alloc(0), SERVER_ID];
  const head = Buffer.concat([
    Buffer.of(
      0xc0 | (type << 4) | 1,
      version >>> 24,
      (version >> 16) & 255,
      (version >> 8) & 255,
      version & 255,
    ),
    Buffer.of(to.length),
    to,
    Buffer.of(sender.length),
    sender,
    varint(token),
    Buffer.alloc(token, 7),
    varint(2 + padded.length + 16),
    Buffer.of(number >> 8, number & 255),
  ]);
  const nonce = label(secret, `${prefix} iv`, 12);
  nonce[10] ^= number >> 8;
  nonce[11] ^= number & 255;
  const cipher = createCipheriv('aes-128-gcm', label(secret, `${prefix} key`, 16), nonce);
  cipher.setAAD(head);
  const body = Buffer.concat([cipher.update(padded), cipher.final(), cipher.getAuthTag()]);
  const mask = createCipheriv('aes-128-ecb', label(secret, `${prefix} hp`, 16), null).update(
    body.subarray(2, 18),
  );
  head[0] ^= mask[0] & 15;
  head[head.length - 2] ^= mask[1];
  head[head.length - 1] ^= mask[2];
  return Buffer.concat([head, body]);
}

/** A packet with a short header. */
const short = Buffer.concat([Buffer.of(0x41), Buffer.alloc(40, 9)]);
/** Another one with a long header, of a type that only passes by. */
const handshake = hex('e0 00000001 00 08 f067a5502a4262b5 05 0102030405');

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
