import { describe, expect, test } from 'vitest';
import { IMAP } from '../../../src/flow/services/imap.ts';
import { C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

const starttls: Said[] = [
  S('* OK [CAPABILITY IMAP4rev1 STARTTLS] ready.\r\n'),
  C('a001 CAPABILITY\r\n'),
  S('* CAPABILITY IMAP4rev1 STARTTLS\r\na001 OK done\r\n'),
  C('a002 starttls\r\n'),
  S('a002 OK Begin TLS negotiation now.\r\n'),
];
const login: Said[] = [S('* OK ready\r\n'), C('1 LOGIN user pass\r\n'), S('1 OK in\r\n')];

describe('imap', () => {
  stands(IMAP, { starttls, login });

  test('confirmed by the greeting or a command', () => {
    expect(verdict(feed(IMAP, starttls.slice(0, 1)))).toBe('confirmed');
    expect(verdict(feed(IMAP, [C('x CAPABILITY\r\n')]))).toBe('confirmed');
  });

  test('hands over after the tagged OK', () => {
    expect(verdict(feed(IMAP, starttls))).toBe('confirmed, hands over');
    expect(verdict(feed(IMAP, [...starttls.slice(0, 4), S('a002 NO not here\r\n')]))).toBe('confirmed');
    expect(verdict(feed(IMAP, [...starttls.slice(0, 4), S('a001 OK late\r\n')]))).toBe('confirmed');
  });

  test('other protocols', () => {
    expect(suggested(IMAP, [C('GET / HTTP/1.1\r\n')])).toBe(false);
    expect(suggested(IMAP, [S('* 5 EXISTS\r\n')])).toBe(false);
    expect(verdict(feed(IMAP, [C('GET / HTTP/1.1\r\n')]))).toBe('rejected');
  });
});
