import { describe, expect, test } from 'vitest';
import { FTP } from '../../../src/flow/services/ftp.ts';
import { NNTP } from '../../../src/flow/services/nntp.ts';
import { SMTP } from '../../../src/flow/services/smtp.ts';
import { C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

const reader: Said[] = [
  S('200 news.example InterNetNews NNRP server ready\r\n'),
  C('MODE READER\r\n'),
  S('200 posting allowed\r\n'),
  C('GROUP a.b\r\n'),
  S('211 2 1 2 a.b\r\n'),
  C('ARTICLE 1\r\n'),
  S('220 1 <x@y> article\r\nSubject: x\r\n\r\n382 not a reply\r\n..\r\nnor this\r\n.\r\n'),
  C('POST\r\n'),
  S('340 send it\r\n'),
  C('Newsgroups: a.b\r\n\r\nSTARTTLS\r\n.\r\n'),
  S('240 thanks\r\n'),
  C('QUIT\r\n'),
  S('205 bye\r\n'),
];

const starttls: Said[] = [
  S('201 news.example\r\n'),
  C('CAPABILITIES\r\n'),
  S('101 list\r\nVERSION 2\r\nSTARTTLS\r\n.\r\n'),
  C('STARTTLS\r\n'),
  S('382 Continue with TLS negotiation\r\n\x16\x03\x03'),
];

const feeder: Said[] = [
  S('200 news.example\r\n'),
  C('MODE STREAM\r\n'),
  S('203 go\r\n'),
  C('CHECK <a@b>\r\nTAKETHIS <c@d>\r\nSubject: y\r\n\r\nSTARTTLS\r\n.\r\nSTARTTLS\r\n'),
  S('238 <a@b>\r\n239 <c@d>\r\n382 go\r\n'),
];

const sasl: Said[] = [
  S('200 x\r\n'),
  C('AUTHINFO SASL PLAIN\r\n'),
  S('383 =\r\n'),
  C('AHgAeQ==\r\n'),
  S('281 in\r\n'),
  C('LISTGROUP a.b\r\n'),
  S('211 1 1 1 a.b list follows\r\n1\r\n.\r\n'),
  C('STARTTLS\r\n'),
  S('502 too late\r\n'),
];

describe('nntp', () => {
  stands(NNTP, { reader, starttls, feeder, sasl });

  test('confirmed by the greeting and the reply to a command of its own', () => {
    expect(verdict(feed(NNTP, reader.slice(0, 2)))).toBe('unsure');
    expect(verdict(feed(NNTP, reader.slice(0, 3)))).toBe('confirmed');
    expect(verdict(feed(NNTP, reader))).toBe('confirmed');
    expect(verdict(feed(NNTP, sasl))).toBe('confirmed');
    const unknown: Said[] = [S('200 x\r\n'), C('CAPABILITIES\r\n'), S('500 what?\r\n')];
    expect(verdict(feed(NNTP, unknown))).toBe('unsure');
    expect(verdict(feed(NNTP, [...unknown, C('MODE READER\r\n'), S('480 who?\r\n')]))).toBe('confirmed');
  });

  test('hands over after the reply to STARTTLS, to the byte', () => {
    const all = starttls.reduce((sum, [, text]) => sum + text.length, 0);
    expect(verdict(feed(NNTP, starttls))).toBe('confirmed, hands over');
    expect(feed(NNTP, starttls).readUntil).toBe(all - 3);
    expect(verdict(feed(NNTP, [...starttls.slice(0, 4), S('580 not now\r\n')]))).toBe('confirmed');
  });

  test('does not mistake articles for commands or replies', () => {
    expect(verdict(feed(NNTP, feeder))).toBe('confirmed, hands over');
    expect(feed(NNTP, feeder).readUntil).toBe(feeder.reduce((sum, [, text]) => sum + text.length, 0));
    const mine: Said[] = [...reader.slice(0, 11), C('STARTTLS\r\n'), S('382 go\r\n')];
    expect(verdict(feed(NNTP, mine))).toBe('confirmed, hands over');
  });

  test('what is compressed is not read', () => {
    const compressed: Said[] = [
      ...starttls.slice(0, 3),
      C('COMPRESS DEFLATE\r\n'),
      S('206 go\r\n\0\x01\r\n'),
    ];
    expect(verdict(feed(NNTP, compressed))).toBe('confirmed');
  });

  test('other protocols that greet with replies of three digits, and are not taken for one another', () => {
    const ftp: Said[] = [S('220 ready\r\n'), C('USER x\r\n'), S('331 password\r\n'), C('MODE S\r\n')];
    const smtp: Said[] = [S('220 x ESMTP\r\n'), C('HELO y\r\n'), S('250 x\r\n')];
    for (const said of [ftp, smtp]) {
      expect(suggested(NNTP, said)).toBe(false);
      expect(verdict(feed(NNTP, said))).toBe('rejected');
    }
    for (const service of [FTP, SMTP])
      for (const said of [reader, starttls, feeder, sasl]) {
        expect(suggested(service, said)).toBe(false);
        expect(verdict(feed(service, said)), service.name).toBe('rejected');
      }
    const password: Said[] = [
      S('200 hello\r\n'),
      C('USER x\r\n'),
      S('200 and?\r\n'),
      C('PASS y\r\n'),
      S('200 ok\r\n'),
    ];
    expect(verdict(feed(NNTP, password))).toBe('unsure');
    expect(suggested(NNTP, [S('2000 things\r\n')])).toBe(false);
    expect(verdict(feed(NNTP, [S('200 x\r\n'), C('GROUP a\r\n'), S('hello\r\n')]))).toBe('rejected');
  });
});
