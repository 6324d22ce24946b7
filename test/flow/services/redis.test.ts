import { describe, expect, test } from 'vitest';
import { REDIS } from '../../../src/flow/services/redis.ts';
import { C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

const client: Said[] = [
  C('*2\r\n$3\r\nGET\r\n$5\r\nk\r\n\x00e\r\n'),
  S('$5\r\n\x00\r\n\x01\x02\r\n'),
  C('*1\r\n$4\r\nPING\r\n'),
  S('+PONG\r\n*2\r\n:1\r\n$-1\r\n'),
];

describe('redis', () => {
  stands(REDIS, { client });

  test('confirmed by the reply', () => {
    expect(verdict(feed(REDIS, client.slice(0, 1)))).toBe('unsure');
    expect(verdict(feed(REDIS, client))).toBe('confirmed');
    expect(verdict(feed(REDIS, [client[0], S('-NOAUTH needed\r\n')]))).toBe('confirmed');
  });

  test('commands as plain text count on its port only', () => {
    const typed = [C('PING\r\n'), S('+PONG\r\n')];
    expect(verdict(feed(REDIS, typed, () => 99, 6379))).toBe('confirmed');
    expect(verdict(feed(REDIS, typed, () => 99, 110))).toBe('rejected');
    expect(suggested(REDIS, typed, 110)).toBe(false);
  });

  test('other protocols', () => {
    expect(verdict(feed(REDIS, [client[0], S('HTTP/1.1 400 Bad Request\r\n')]))).toBe('rejected');
    expect(verdict(feed(REDIS, [client[0], S('$x\r\n')]))).toBe('rejected');
    expect(suggested(REDIS, [C('* OK\r\n')])).toBe(false);
  });
});
