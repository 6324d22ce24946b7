import * as fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { ServiceNews } from '../../../src/flow/services/service.ts';
import { looksLikeTls, TlsStream } from '../../../src/flow/services/tls-stream.ts';
import { seeded } from '../../../src/packet/conversation.ts';
import { type Capture, capture, type Piece } from '../tls-capture.ts';

interface Outcome {
  bits: number;
  /** Bytes of both sides that had been fed when it was established. */
  establishedAfter: number;
  stream: TlsStream;
}

function feed(pieces: readonly Piece[], chunk: () => number = () => 1e9, stream = new TlsStream()): Outcome {
  let bits = 0;
  let fed = 0;
  let establishedAfter = -1;
  for (const { from, bytes } of pieces) {
    for (let at = 0; at < bytes.length; ) {
      const size = Math.min(bytes.length - at, Math.max(1, chunk()));
      // In an array of its own, so that nothing can be read beyond, and overwritten afterwards, as a ring would.
      const copy = new Uint8Array(size + 6);
      copy.set(bytes.subarray(at, at + size), 3);
      const now = stream.data(from, copy, 3, size);
      copy.fill(0xee);
      fed += size;
      expect(now & bits & (ServiceNews.confirmed | ServiceNews.established), 'told once only').toBe(0);
      bits |= now;
      if (now & ServiceNews.established) establishedAfter = fed;
      at += size;
    }
  }
  return { bits, establishedAfter, stream };
}

/** The same bytes as whole records, in the order in which they were complete. */
function records(pieces: readonly Piece[]): Piece[] {
  const open: [Uint8Array, Uint8Array] = [new Uint8Array(0), new Uint8Array(0)];
  const out: Piece[] = [];
  for (const { from, bytes } of pieces) {
    let rest: Uint8Array = Buffer.concat([open[from], bytes]);
    while (rest.length >= 5 && rest.length >= 5 + ((rest[3] << 8) | rest[4])) {
      const end = 5 + ((rest[3] << 8) | rest[4]);
      out.push({ from, bytes: rest.subarray(0, end) });
      rest = rest.subarray(end);
    }
    open[from] = rest;
  }
  return out;
}

const total = (pieces: readonly Piece[]) => pieces.reduce((sum, piece) => sum + piece.bytes.length, 0);

/** Feeds a handshake record by record, and tells which side's record, and of what type, established it. */
function establishing(name: string): string {
  const stream = new TlsStream();
  for (const { from, bytes } of records((handshakes.get(name) as Capture).pieces)) {
    const bits = stream.data(from, bytes, 0, bytes.length);
    if (bits & ServiceNews.established) return `${from === 0 ? 'client' : 'server'} ${bytes[0]}`;
  }
  return 'never';
}

async function keep(name: string, ...args: Parameters<typeof capture>): Promise<Capture> {
  const captured = await capture(...args);
  handshakes.set(name, captured);
  return captured;
}

const V12 = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
const V13 = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' } as const;
const LEGACY = { ciphers: 'DEFAULT@SECLEVEL=0' } as const;

const handshakes = new Map<string, Capture>();

beforeAll(async () => {
  const first12 = await keep(
    '1.2',
    { ...V12, ALPNProtocols: ['h2', 'http/1.1'] },
    { ALPNProtocols: ['http/1.1'] },
  );
  await keep('1.2 resumed by ticket', { ...V12, session: first12.session as Buffer });
  await keep('1.2 with client certificate', V12, { clientCert: true });
  await keep('1.2 with RSA-less CBC', { ...V12, ciphers: 'ECDHE-ECDSA-AES128-SHA256' });
  const first13 = await keep('1.3', { ...V13, ALPNProtocols: ['h2', 'http/1.1'] }, { ALPNProtocols: ['h2'] });
  await keep('1.3 resumed', { ...V13, session: first13.session as Buffer });
  await keep('1.3 with client certificate', V13, { clientCert: true });
  await keep('1.3 after HelloRetryRequest', { ...V13, ecdhCurve: 'P-521:P-256' }, { ecdhCurve: 'P-256' });
  await keep('1.3 with 256-bit hash', { ...V13, ciphers: 'TLS_AES_128_GCM_SHA256' });
  await keep(
    '1.1',
    { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ...LEGACY },
    { minVersion: 'TLSv1', ...LEGACY },
  );
  await keep(
    '1.0',
    { minVersion: 'TLSv1', maxVersion: 'TLSv1', ...LEGACY },
    { minVersion: 'TLSv1', ...LEGACY },
  );
});

describe('real handshakes', () => {
  test.each([
    ['1.2', 0x0303, false],
    ['1.2 resumed by ticket', 0x0303, true],
    ['1.2 with client certificate', 0x0303, false],
    ['1.2 with RSA-less CBC', 0x0303, false],
    ['1.3', 0x0304, false],
    ['1.3 resumed', 0x0304, true],
    ['1.3 with client certificate', 0x0304, false],
    ['1.3 after HelloRetryRequest', 0x0304, false],
    ['1.3 with 256-bit hash', 0x0304, false],
    ['1.1', 0x0302, false],
    ['1.0', 0x0301, false],
  ])('%s: the same in any chunking', (name, version, resumed) => {
    const captured = handshakes.get(name) as Capture;
    expect(captured.error).toBeUndefined();
    expect(captured.reused, 'the handshake is what it claims to be').toBe(resumed);
    const whole = feed(captured.pieces);
    expect(whole.bits).toBe(ServiceNews.confirmed | ServiceNews.established | ServiceNews.done);
    expect(whole.stream.tls).toMatchObject({
      version,
      resumed,
      established: true,
      serverName: 'www.test.example',
    });
    expect(whole.establishedAfter).toBeLessThan(total(captured.pieces));
    for (let seed = 0; seed < 60; seed++) {
      const random = seeded(seed);
      const chunked = feed(captured.pieces, seed === 0 ? () => 1 : () => 1 + Math.floor(random() ** 3 * 900));
      expect(chunked.bits).toBe(whole.bits);
      expect(chunked.stream.tls).toEqual(whole.stream.tls);
      expect(chunked.establishedAfter).toBeLessThanOrEqual(whole.establishedAfter);
    }
  });

  test('HelloRetryRequest: the handshake really had two ClientHellos in the clear', () => {
    const captured = handshakes.get('1.3 after HelloRetryRequest') as Capture;
    const client = records(captured.pieces).filter((record) => record.from === 0);
    expect(client.filter((record) => record.bytes[0] === 22)).toHaveLength(2);
  });

  test('cipher suites', () => {
    expect(feed((handshakes.get('1.3 with 256-bit hash') as Capture).pieces).stream.tls.cipher).toBe(0x1301);
    expect(feed((handshakes.get('1.2 with RSA-less CBC') as Capture).pieces).stream.tls.cipher).toBe(0xc023);
  });

  test('ALPN: the choice is visible in TLS 1.2, only the offer in TLS 1.3', () => {
    const old = feed((handshakes.get('1.2') as Capture).pieces).stream;
    expect(old.alpnOffer).toBe('h2,http/1.1');
    expect(old.tls.alpn).toBe('http/1.1');
    const modern = feed((handshakes.get('1.3') as Capture).pieces).stream;
    expect(modern.alpnOffer).toBe('h2,http/1.1');
    expect(modern.tls.alpn).toBeUndefined();
  });

  test('the responder may be the client: sides come from the hellos', () => {
    const pieces = (handshakes.get('1.3') as Capture).pieces.map(({ from, bytes }) => ({
      from: (1 - from) as 0 | 1,
      bytes,
    }));
    expect(feed(pieces).bits & ServiceNews.established).toBe(ServiceNews.established);
  });
});

/** The same with the client as originator. */
const turned = (pieces: readonly Piece[]): Piece[] =>
  pieces.map(({ from, bytes }) => ({ from: from === 0 ? 1 : 0, bytes }));

describe('history and alerts', () => {
  test.each([
    ['1.2', 'CsxknGIti'],
    ['1.2 resumed by ticket', 'CsiI'],
    ['1.2 with client certificate', 'CsxkrnXGYIti'],
    ['1.3', 'CsiI'],
    ['1.3 resumed', 'CsiI'],
    // The server answers the second hello at once, and the client's ChangeCipherSpec comes with that hello.
    ['1.3 after HelloRetryRequest', 'CjiICs'],
  ])('%s: %s', (name, history) => {
    const { pieces } = handshakes.get(name) as Capture;
    expect(feed(turned(pieces)).stream.tls).toMatchObject({ history, lastAlert: -1 });
    expect(feed(pieces).stream.tls.history, 'the responder is the client').toBe(`^${history}`);
  });

  test('an alert in the clear is the last one, one that is encrypted is not told', async () => {
    const { pieces } = await capture(V12, V13);
    const { tls } = feed(turned(pieces), () => 1).stream;
    expect(tls).toMatchObject({ history: 'Cl', lastAlert: 70, established: false });
  });

  test('it stops at 100 letters, as in Zeek', () => {
    const stream = new TlsStream();
    const [hello] = records((handshakes.get('1.2') as Capture).pieces);
    stream.data(1, hello.bytes, 0, hello.bytes.length);
    const warning = Uint8Array.of(21, 3, 3, 0, 2, 1, 112);
    for (let i = 0; i < 200; i++) stream.data(0, warning, 0, warning.length);
    expect(stream.tls.history).toBe(`C${'l'.repeat(99)}`);
    expect(stream.tls.lastAlert).toBe(112);
  });
});

describe('established means both sides', () => {
  test.each([
    // The server's Finished is the last of a full TLS 1.2 handshake, the client's that of a resumed one.
    ['1.2', 'server 22'],
    ['1.2 resumed by ticket', 'client 22'],
    ['1.2 with client certificate', 'server 22'],
    ['1.3', 'client 23'],
    ['1.3 resumed', 'client 23'],
    ['1.3 with client certificate', 'client 23'],
    ['1.3 after HelloRetryRequest', 'client 23'],
  ])('%s: by %s', (name, last) => {
    expect(establishing(name)).toBe(last);
  });

  test.each(['1.2', '1.3', '1.2 resumed by ticket'])('%s: one direction alone is not enough', (name) => {
    const { pieces } = handshakes.get(name) as Capture;
    for (const from of [0, 1] as const) {
      const { bits } = feed(pieces.filter((piece) => piece.from === from));
      expect(bits & ServiceNews.established).toBe(0);
    }
  });

  test.each([
    ['1.2', 21, 26],
    ['1.3', 23, 19],
  ] as const)('%s: an encrypted alert of the client in place of Finished does not', (name, type, length) => {
    const stream = new TlsStream();
    const all = records((handshakes.get(name) as Capture).pieces);
    // Finished is the client's first record that is encrypted: in TLS 1.2 the one after ChangeCipherSpec.
    const client = all.filter((record) => record.from === 0);
    const finished = client[client.findIndex(({ bytes }) => bytes[0] === 20) + 1];
    expect(finished.bytes[0]).toBe(name === '1.2' ? 22 : 23);
    for (const { from, bytes } of all.slice(0, all.indexOf(finished)))
      stream.data(from, bytes, 0, bytes.length);
    const alert = Uint8Array.from([type, 3, 3, 0, length, ...new Uint8Array(length)]);
    expect(stream.data(0, alert, 0, alert.length)).toBe(0);
    for (const { bytes } of all.slice(all.indexOf(finished)).filter((record) => record.from === 1)) {
      expect(stream.data(1, bytes, 0, bytes.length) & ServiceNews.established).toBe(0);
    }
  });

  test('no common version: a fatal alert ends it without either', async () => {
    const captured = await capture(V12, V13);
    expect(captured.error).toBeDefined();
    expect(feed(captured.pieces).bits).toBe(ServiceNews.done);
  });
});

describe('looksLikeTls', () => {
  test('takes the first bytes of both sides, also a few of them only', () => {
    for (const captured of handshakes.values()) {
      for (const from of [0, 1] as const) {
        const first = captured.pieces.find((piece) => piece.from === from)?.bytes as Uint8Array;
        for (let n = 1; n < 30; n++) expect(looksLikeTls(first, 0, n), `${n} bytes`).toBe(true);
      }
    }
  });

  test.each([
    ['GET / HTTP/1.1\r\n'],
    ['SSH-2.0-OpenSSH_9.2\r\n'],
    ['\x16\x02\x01\x00\x50\x01'],
    ['\x16\x03\x01\x00\x02\x01'],
    ['\x16\x03\x01\xff\xff\x01'],
    ['\x16\x03\x01\x00\x50\x0b'],
    ['\x16\x03\x01\x00\x50\x01\x01\x00\x00\x03'],
    ['\x16\x03\x01\x00\x50\x01\x00\x00\x4c\x02'],
    [''],
  ])('refuses %j', (text) => {
    const bytes = Buffer.from(text, 'latin1');
    expect(looksLikeTls(bytes, 0, bytes.length)).toBe(false);
  });
});

describe('whatever the bytes', () => {
  test('other protocols are rejected', () => {
    for (const text of [
      'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
      'EHLO x\r\n',
      '\0\0\0\0\0\0',
      '\x17\x03\x03\x00\x10aaaaaaaaaaaaaaaa',
    ]) {
      const bytes = Buffer.from(text, 'latin1');
      const stream = new TlsStream();
      expect(stream.data(0, bytes, 0, bytes.length)).toBe(ServiceNews.done | ServiceNews.rejected);
      expect(stream.data(1, bytes, 0, bytes.length)).toBe(ServiceNews.done | ServiceNews.rejected);
    }
  });

  test('an answer that is not TLS rejects', () => {
    const { pieces } = handshakes.get('1.3') as Capture;
    const stream = new TlsStream();
    stream.data(0, pieces[0].bytes, 0, pieces[0].bytes.length);
    const answer = Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n');
    expect(stream.data(1, answer, 0, answer.length)).toBe(ServiceNews.done | ServiceNews.rejected);
    expect(stream.tls.serverName).toBe('www.test.example');
  });

  test('random bytes after a plausible beginning never throw and never establish', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.uint8Array({ maxLength: 400 }), (a, b) => {
        const start = [22, 3, 1, 1, 0x40, 1, 0, 1, 0x3c, 3, 3];
        const { bits } = feed([
          { from: 0, bytes: Uint8Array.from([...start, ...a]) },
          { from: 1, bytes: Uint8Array.from([...start, ...b]) },
        ]);
        expect(bits & ServiceNews.established).toBe(0);
      }),
      { numRuns: 3000 },
    );
  });

  test('mutated handshakes never throw, and chunking makes no difference', () => {
    const all = [...handshakes.values()];
    fc.assert(
      fc.property(
        fc.nat(),
        fc.array(fc.tuple(fc.nat(), fc.nat(1200), fc.nat(255)), { minLength: 1, maxLength: 5 }),
        fc.nat(),
        (which, edits, seed) => {
          const pieces = all[which % all.length].pieces.map(({ from, bytes }) => ({
            from,
            bytes: bytes.slice(),
          }));
          for (const [piece, at, value] of edits) {
            const { bytes } = pieces[piece % pieces.length];
            bytes[at % bytes.length] = value;
          }
          const random = seeded(seed);
          const whole = feed(pieces);
          const chunked = feed(pieces, () => 1 + Math.floor(random() * 200));
          expect(chunked.bits).toBe(whole.bits);
          expect(chunked.stream.tls).toEqual(whole.stream.tls);
        },
      ),
      // Found once: a hello whose header was the last of its chunk, followed by a longer one.
      { numRuns: 1500, examples: [[1877999603, [[0, 10, 0]], 1320448835]] },
    );
  });

  test('a handshake that never ends is given up, and memory stays bounded', () => {
    const { pieces } = handshakes.get('1.2') as Capture;
    const stream = new TlsStream();
    stream.data(0, pieces[0].bytes, 0, pieces[0].bytes.length);
    const filler = new Uint8Array(5 + 16_000);
    filler.set([22, 3, 3, 16_000 >> 8, 16_000 & 255]);
    let bits = 0;
    let fed = 0;
    while (bits === 0 && fed < 1e8) {
      bits = stream.data(0, filler, 0, filler.length);
      fed += filler.length;
    }
    expect(bits & ServiceNews.done).toBe(ServiceNews.done);
    expect(fed).toBeLessThan(3e6);
  });

  test('a hello larger than the limit is rejected before it is stored', () => {
    const huge = Uint8Array.of(22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff, 3, 3);
    expect(new TlsStream().data(0, huge, 0, huge.length)).toBe(ServiceNews.done | ServiceNews.rejected);
  });

  test('a server name is printable, whatever was sent', async () => {
    const { pieces } = await capture({ ...V13, servername: 'a.test' });
    const hello = pieces[0].bytes.slice();
    const at = Buffer.from(hello).indexOf('a.test');
    hello.set([0x0a, 0xff], at);
    const { stream } = feed([{ from: 0, bytes: hello }]);
    expect(stream.tls.serverName).toBe('\\x0a\\xfftest');
  });
});
