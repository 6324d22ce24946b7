import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  type ClientOffer,
  clientPrints,
  isGrease,
  ja3,
  ja3s,
  ja4,
} from '../../../src/flow/services/fingerprint.ts';

const numbers = (text: string) => text.split(',').map((part) => Number.parseInt(part, 16));

const empty: ClientOffer = {
  legacyVersion: 0x0303,
  version: 0x0303,
  ciphers: [],
  extensions: [],
  groups: [],
  pointFormats: [],
  signatures: [],
  hasServerName: false,
  alpn: undefined,
};

test("JA3: the example of its authors' README", () => {
  const offer = {
    ...empty,
    legacyVersion: 769,
    ciphers: [47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4],
    extensions: [0, 10, 11],
    groups: [23, 24, 25],
    pointFormats: [0],
  };
  expect(ja3(offer)).toBe('ada70206e40642a3e4461f35503241d5');
  // The second one of it: nothing but ciphers.
  expect(ja3({ ...empty, legacyVersion: 769, ciphers: [4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99] })).toBe(
    'de350869b8c85de67a350c8d186f11e6',
  );
});

test('JA3 leaves GREASE out', () => {
  const offer = { ...empty, ciphers: [0x1301], extensions: [10], groups: [29] };
  const greased = {
    ...empty,
    ciphers: [0x0a0a, 0x1301],
    extensions: [0xfafa, 10, 0x1a1a],
    groups: [0xdada, 29],
  };
  expect(ja3(greased)).toBe(ja3(offer));
  expect([0x0a0a, 0xfafa, 0x5a5a].every(isGrease)).toBe(true);
  expect([0x0a1a, 0x1301, 0x0a0b].some(isGrease)).toBe(false);
});

test('JA3S has the cipher and the extensions of the server', () => {
  const md5 = createHash('md5').update('769,47,65281-0-11-35-5-16').digest('hex');
  expect(ja3s(769, 47, [65281, 0, 11, 35, 5, 16])).toBe(md5);
});

test("JA4: the example of its authors' technical details", () => {
  const offer = {
    ...empty,
    version: 0x0304,
    ciphers: numbers('0a0a,1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035'),
    extensions: numbers(
      '1a1a,001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015',
    ),
    signatures: numbers('0403,0804,0401,0503,0805,0501,0806,0601'),
    hasServerName: true,
    alpn: Buffer.from('h2'),
  };
  expect(ja4(offer, 't')).toBe('t13d1516h2_8daaf6152771_e5627efa2ab1');
});

test('JA4 of little, and of protocols that are no text', () => {
  expect(ja4(empty, 'q')).toBe('q12i000000_000000000000_000000000000');
  expect(ja4({ ...empty, version: 0xfefd, alpn: Buffer.from('h3-29') }, 'd')).toMatch(/^dd2i0000h9_/);
  expect(ja4({ ...empty, alpn: Uint8Array.of(0xab, 0xcd) }, 't')).toMatch(/^t12i0000ad_/);
});

test('remembered fingerprints are those of this hello: whatever of it is another, they are computed anew', () => {
  const offer: ClientOffer = {
    ...empty,
    ciphers: [0x1301, 0x1302, 0xc02b],
    extensions: [0, 10, 13, 16, 43],
    groups: [29, 23],
    pointFormats: [0],
    signatures: [0x0403, 0x0804],
    hasServerName: true,
    alpn: Buffer.from('h2'),
  };
  const others: ClientOffer[] = [
    offer,
    { ...offer, legacyVersion: 0x0302 },
    { ...offer, version: 0x0303 },
    { ...offer, hasServerName: !offer.hasServerName },
    { ...offer, alpn: Buffer.from('h3') },
    { ...offer, alpn: undefined },
    ...(['ciphers', 'extensions', 'groups', 'pointFormats', 'signatures'] as const).flatMap((list) => [
      { ...offer, [list]: offer[list].toReversed() },
      { ...offer, [list]: offer[list].slice(1) },
      { ...offer, [list]: [] },
    ]),
    // The same numbers, cut into lists elsewhere.
    { ...offer, ciphers: [1, 2], extensions: [3] },
    { ...offer, ciphers: [1], extensions: [2, 3] },
  ];
  for (let round = 0; round < 2; round++)
    for (const each of others)
      for (const transport of ['t', 'q', 'd'] as const)
        expect(clientPrints(each, transport)).toEqual({ ja3: ja3(each), ja4: ja4(each, transport) });
  // More kinds of hellos than are remembered.
  for (let n = 0; n < 10_000; n++) clientPrints({ ...empty, ciphers: [n] }, 't');
  expect(clientPrints(offer, 't')).toEqual({ ja3: ja3(offer), ja4: ja4(offer, 't') });
});
