import { describe, expect, test } from 'vitest';
import { POP3 } from '../../../src/flow/services/pop3.ts';
import { C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

const user: Said[] = [S('+OK ready\r\n'), C('USER x\r\n'), S('+OK\r\n'), C('PASS y\r\n'), S('-ERR no\r\n')];
const stls: Said[] = [
  S('+OK ready\r\n'),
  C('CAPA\r\nSTLS\r\n'),
  S('+OK list\r\nUSER\r\n+OK inside\r\n.\r\n+OK begin TLS\r\n'),
];
const auth: Said[] = [
  S('+OK ready\r\n'),
  C('AUTH\r\n'),
  S('+OK\r\nPLAIN\r\n.\r\n'),
  C('AUTH PLAIN\r\n'),
  S('+ \r\n'),
  C('AHgAeQ==\r\n'),
  S('+OK in\r\n'),
];

describe('pop3', () => {
  stands(POP3, { user, stls, auth });

  test('confirmed by a positive reply to a command of its own', () => {
    expect(verdict(feed(POP3, user.slice(0, 2)))).toBe('unsure');
    expect(verdict(feed(POP3, user))).toBe('confirmed');
    expect(verdict(feed(POP3, auth))).toBe('confirmed');
    expect(verdict(feed(POP3, [S('+OK ready\r\n'), C('QUIT\r\n'), S('+OK bye\r\n')]))).toBe('unsure');
  });

  test('hands over after STLS', () => {
    expect(verdict(feed(POP3, stls))).toBe('confirmed, hands over');
    const refused = [S('+OK ready\r\n'), C('STLS\r\n'), S('-ERR no\r\n'), C('USER x\r\n'), S('+OK\r\n')];
    expect(verdict(feed(POP3, refused))).toBe('confirmed');
  });

  test('other protocols', () => {
    expect(suggested(POP3, [S('+PONG\r\n')])).toBe(false);
    expect(verdict(feed(POP3, [S('+OK x\r\n'), S('$5\r\nhello\r\n')]))).toBe('rejected');
  });
});
