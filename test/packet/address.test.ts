import { isIPv4, isIPv6 } from 'node:net';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { ipBytes, ipText, ipv4Bytes, ipv6Bytes, macBytes } from '../../src/packet/address.ts';

test.each([
  ['::', '::'],
  ['::1', '::1'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['2001:0DB8::0001', '2001:db8::1'],
  ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
  ['1:0:3:4:5:6:7:8', '1:0:3:4:5:6:7:8'],
  ['::ffff:192.0.2.1', '::ffff:c000:201'],
  ['fe80::', 'fe80::'],
])('%s is written as %s (RFC 5952)', (text, canonical) => {
  expect(ipText(ipv6Bytes(text) as Uint8Array, 0, 16)).toBe(canonical);
});

test('what node takes for an address is taken, and nothing else', () => {
  const piece = fc.constantFrom(
    '0',
    '1',
    'ff',
    '10',
    '255',
    '256',
    '01',
    ':',
    '::',
    '.',
    '1.2.3.4',
    'abcd',
    'g',
    '',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (parts) => {
      const text = parts.join('');
      expect(ipv4Bytes(text) !== undefined, text).toBe(isIPv4(text));
      expect(ipv6Bytes(text) !== undefined, text).toBe(isIPv6(text));
    }),
    { numRuns: 20_000 },
  );
});

test('text and bytes are each other', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      expect(ipBytes(ipText(bytes, 0, 16))).toEqual(bytes);
      expect(ipBytes(ipText(bytes, 0, 4))).toEqual(bytes.slice(0, 4));
    }),
  );
});

test('MAC addresses', () => {
  expect(macBytes('02:00:5E:00:00:ff')).toEqual(Uint8Array.of(2, 0, 0x5e, 0, 0, 255));
  expect(macBytes('02:00:5e:00:00')).toBeUndefined();
});
