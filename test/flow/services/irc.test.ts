import { describe, expect, test } from 'vitest';
import { IRC } from '../../../src/flow/services/irc.ts';
import { C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

const plain: Said[] = [
  C('PASS x\r\nNICK me\r\nUSER me 0 * :My Name\r\n'),
  S(':irc.example 001 me :Welcome\r\nPING :x\r\n'),
  C('PONG :x\r\nJOIN #a\r\n'),
];
const starttls: Said[] = [
  S(':irc.example NOTICE Auth :*** Looking up\r\n'),
  C('CAP LS\r\nSTARTTLS\r\n'),
  S(':irc.example CAP * LS :tls\r\n:irc.example 670 * :STARTTLS successful\r\n'),
];

describe('irc', () => {
  stands(IRC, { plain, starttls });

  test('confirmed by a registration and what servers say', () => {
    expect(verdict(feed(IRC, plain))).toBe('confirmed');
    expect(verdict(feed(IRC, plain.slice(0, 1)))).toBe('unsure');
    expect(verdict(feed(IRC, starttls))).toBe('confirmed, hands over');
  });

  test('FTP and POP3 are not IRC', () => {
    expect(verdict(feed(IRC, [C('USER me\r\n'), S('331 password\r\n')]))).toBe('rejected');
    expect(verdict(feed(IRC, [C('USER me\r\n'), S('+OK\r\n')]))).toBe('rejected');
    expect(suggested(IRC, [C('GET / HTTP/1.1\r\n'), S('HTTP/1.1 200 OK\r\n')])).toBe(false);
  });
});
