import { describe, expect, test } from 'vitest';
import { SSH } from '../../../src/flow/services/ssh.ts';
import { C, feed, S, type Said, stands, verdict } from './support.ts';

/** A binary packet of protocol 2. */
function packet(type: number, payload = 40): Uint8Array {
  const bytes = Buffer.alloc(4 + 1 + 1 + payload + 4);
  bytes.writeUInt32BE(bytes.length - 4);
  bytes[4] = 4;
  bytes[5] = type;
  return bytes;
}

/** A packet of protocol 1. */
function oldPacket(type: number, size = 60): Uint8Array {
  const padding = 8 - (size % 8);
  const bytes = Buffer.alloc(4 + padding + size);
  bytes.writeUInt32BE(size);
  bytes[4 + padding] = type;
  return bytes;
}

const versions: Said[] = [C('SSH-2.0-OpenSSH_9.6\r\n'), S('SSH-2.0-dropbear_2022.83\r\n')];
const exchange: Said[] = [
  ...versions,
  C(packet(20, 1500)),
  S(packet(20, 900)),
  C(packet(30)),
  S(Buffer.concat([packet(31, 200), packet(21, 0)])),
];
const one: Said[] = [
  S('SSH-1.99-OpenSSH_6.6\n'),
  C('SSH-1.5-OpenSSH_6.2\n'),
  S(oldPacket(2, 267)),
  C(oldPacket(3, 148)),
];
const banner: Said[] = [C('SSH-2.0-x\r\n'), S('SSH-2.0-y\r\n'), S(packet(20)), S(packet(1, 30))];

describe('ssh', () => {
  stands(SSH, { exchange, one, banner });

  test('confirmed by the new keys, not by versions alone', () => {
    expect(verdict(feed(SSH, exchange))).toBe('confirmed');
    expect(verdict(feed(SSH, exchange.slice(0, 5)))).toBe('unsure');
    expect(verdict(feed(SSH, versions))).toBe('unsure');
  });

  test('protocol 1 by the session key', () => {
    expect(verdict(feed(SSH, one))).toBe('confirmed');
  });

  test('one side alone is not enough', () => {
    const server = exchange.filter(([from]) => from === 0);
    expect(verdict(feed(SSH, server))).toBe('rejected');
  });

  test('lines before the version of the server', () => {
    expect(verdict(feed(SSH, [exchange[0], S('Welcome\r\nto this\r\n'), ...exchange.slice(1)]))).toBe(
      'confirmed',
    );
    expect(verdict(feed(SSH, [S('x\r\n'.repeat(100))]))).toBe('rejected');
    expect(verdict(feed(SSH, [C('Welcome\r\n')]))).toBe('rejected');
  });

  test.each([
    ['a length beyond the limit', Uint8Array.of(0, 16, 0, 0, 4, 20)],
    ['too much padding', Uint8Array.of(0, 0, 0, 12, 12, 20)],
    ['a message that may not come yet', packet(94)],
  ])('rejected: %s', (_what, bytes) => {
    expect(verdict(feed(SSH, [...versions, C(bytes)]))).toBe('rejected');
  });
});
