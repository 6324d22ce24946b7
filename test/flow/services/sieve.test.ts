import { describe, expect, test } from 'vitest';
import { SIEVE } from '../../../src/flow/services/sieve.ts';
import { C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

const capabilities =
  '"IMPLEMENTATION" "Example1 ManageSieved v001"\r\n"SASL" "PLAIN"\r\n"SIEVE" "fileinto vacation"\r\n"STARTTLS"\r\n"VERSION" "1.0"\r\n';
const greeting = S(`${capabilities}OK "ready"\r\n`);

const starttls: Said[] = [greeting, C('STARTTLS\r\n'), S('OK "Begin TLS negotiation now."\r\n\x16\x03\x03')];
const pipelined: Said[] = [
  S('"SIEVE" {8}\r\nfileinto\r\n"STARTTLS"\r\nok\r\n'),
  C('capability\r\nstarttls\r\n'),
  S(`${capabilities}OK\r\nOK\r\n`),
];
const login: Said[] = [
  greeting,
  C('AUTHENTICATE "SCRAM-SHA-1" {8+}\r\nSTARTTLS\r\n'),
  S('{6}\r\nOK\r\nNO\r\n'),
  C('"eA=="\r\n'),
  S('OK (SASL "eA==")\r\n'),
  C('PUTSCRIPT "x" {10+}\r\nSTARTTLS\r\n\r\n'),
];
const refused: Said[] = [
  greeting,
  C('AUTHENTICATE "PLAIN"\r\n'),
  S('NO (ENCRYPT-NEEDED) {9}\r\nTLS\r\nOK\r\n\r\n'),
  C('STARTTLS\r\n'),
  S('OK\r\n'),
];

describe('sieve', () => {
  stands(SIEVE, { starttls, pipelined, login, refused });

  test('confirmed by the capabilities and a command', () => {
    expect(verdict(feed(SIEVE, starttls.slice(0, 1)))).toBe('unsure');
    expect(verdict(feed(SIEVE, starttls.slice(0, 2)))).toBe('confirmed');
    expect(verdict(feed(SIEVE, login))).toBe('confirmed');
    expect(verdict(feed(SIEVE, [greeting, C('PUTSCRIPT "x" {1+}\r\nx\r\n')]))).toBe('confirmed');
  });

  test('hands over after the OK to STARTTLS, to the byte', () => {
    const all = starttls.reduce((sum, [, text]) => sum + text.length, 0);
    expect(verdict(feed(SIEVE, starttls))).toBe('confirmed, hands over');
    expect(feed(SIEVE, starttls).readUntil).toBe(all - 3);
    expect(verdict(feed(SIEVE, pipelined))).toBe('confirmed, hands over');
    const length = pipelined.reduce((sum, [, text]) => sum + text.length, 0);
    expect(feed(SIEVE, pipelined).readUntil).toBe(length);
  });

  test('STARTTLS that is refused, and after a login that was', () => {
    expect(
      verdict(feed(SIEVE, [...starttls.slice(0, 2), S('NO "not now"\r\n'), C('NOOP\r\n'), S('OK\r\n')])),
    ).toBe('confirmed');
    expect(verdict(feed(SIEVE, refused))).toBe('confirmed, hands over');
  });

  test('other protocols', () => {
    expect(suggested(SIEVE, [S('"hello"\r\n')])).toBe(false);
    expect(suggested(SIEVE, [S('* OK ready\r\n'), C('STARTTLS\r\n')])).toBe(false);
    expect(verdict(feed(SIEVE, [S('"VERSION" "1"\r\nOK\r\n'), C('STARTTLS\r\n')]))).toBe('rejected');
    expect(verdict(feed(SIEVE, [S(capabilities), S('BYE "full"\r\n')]))).toBe('rejected');
    expect(verdict(feed(SIEVE, [greeting, C('GET / HTTP/1.1\r\n')]))).toBe('rejected');
    expect(verdict(feed(SIEVE, [S(`${capabilities}hello\r\n`)]))).toBe('rejected');
  });
});
