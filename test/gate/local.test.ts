import { expect, test } from 'vitest';
import { hasLocalEndpoint } from '../../src/gate/local.ts';
import { ipBytes } from '../../src/packet/address.ts';

const bytes = (text: string): Uint8Array => ipBytes(text) ?? new Uint8Array();

/** Both addresses as they stand at the front of a key. */
function key(a: string, b: string): Uint8Array {
  const out = new Uint8Array(64);
  out.set(bytes(a), 8);
  out.set(bytes(b), 8 + bytes(a).length);
  return out.subarray(8);
}

test('an endpoint of this host is found on either side, in both families, and no other is', () => {
  const local = new Set(
    ['192.0.2.7', '2001:db8::a0f'].map((text) => Buffer.from(bytes(text)).toString('hex')),
  );
  expect(hasLocalEndpoint(local, 4, key('192.0.2.7', '198.51.100.1'))).toBe(true);
  expect(hasLocalEndpoint(local, 4, key('198.51.100.1', '192.0.2.7'))).toBe(true);
  expect(hasLocalEndpoint(local, 4, key('198.51.100.1', '192.0.2.70'))).toBe(false);
  expect(hasLocalEndpoint(local, 6, key('2001:db8::1', '2001:db8::a0f'))).toBe(true);
  expect(hasLocalEndpoint(local, 6, key('2001:db8::a0f', '2001:db8::1'))).toBe(true);
  expect(hasLocalEndpoint(local, 6, key('2001:db8::a0', '2001:db8::f'))).toBe(false);
});
