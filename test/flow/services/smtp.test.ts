import { describe, expect, test } from 'vitest';
import { SMTP } from '../../../src/flow/services/smtp.ts';
import { C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

const mail: Said[] = [
  S('220 mail.example ESMTP ready\r\n'),
  C('EHLO client.example\r\n'),
  S('250-mail.example\r\n250-SIZE 10240000\r\n250 PIPELINING\r\n'),
  C('MAIL FROM:<a@example>\r\nRCPT TO:<b@example>\r\nDATA\r\n'),
  S('250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n'),
  C('Subject: x\r\n\r\nSTARTTLS\r\n.\r\n'),
  S('250 2.0.0 Ok\r\n'),
  C('QUIT\r\n'),
  S('221 Bye\r\n'),
];

const starttls: Said[] = [
  S('220 mail.example ESMTP\r\n'),
  C('EHLO x\r\n'),
  S('250-mail.example\r\n250 STARTTLS\r\n'),
  C('STARTTLS\r\n'),
  S('220 2.0.0 Ready to start TLS\r\n\x16\x03\x03'),
];

const chunks: Said[] = [
  S('220-mail.example SMTP\r\n220 ready\r\n'),
  C('HELO x\r\n'),
  S('250 mail.example\r\n'),
  C('BDAT 12 LAST\r\nSTARTTLS\r\n.\n'),
  S('250 got it\r\n'),
  C('STARTTLS\r\n'),
  S('220 go\r\n'),
];

describe('smtp', () => {
  stands(SMTP, { mail, starttls, chunks });

  test('confirmed by the greeting and a command', () => {
    expect(verdict(feed(SMTP, mail))).toBe('confirmed');
    expect(verdict(feed(SMTP, mail.slice(0, 1)))).toBe('unsure');
    expect(verdict(feed(SMTP, mail.slice(0, 2)))).toBe('confirmed');
  });

  test('hands over after the reply to STARTTLS, to the byte', () => {
    const all = starttls.reduce((sum, [, text]) => sum + text.length, 0);
    expect(feed(SMTP, starttls).readUntil).toBe(all - 3);
    expect(verdict(feed(SMTP, starttls))).toBe('confirmed, hands over');
  });

  test('does not mistake mail for commands', () => {
    expect(verdict(feed(SMTP, chunks))).toBe('confirmed, hands over');
    expect(feed(SMTP, chunks).readUntil).toBe(chunks.reduce((sum, [, text]) => sum + text.length, 0));
  });

  test('STARTTLS that is refused, or pipelined', () => {
    const refused: Said[] = [...starttls.slice(0, 4), S('454 not now\r\n'), C('NOOP\r\n'), S('220 odd\r\n')];
    expect(verdict(feed(SMTP, refused))).toBe('confirmed');
    const early: Said[] = [
      S('220 x ESMTP\r\n'),
      C('EHLO x\r\nSTARTTLS\r\n'),
      S('250 x\r\n'),
      S('220 go\r\n'),
    ];
    expect(verdict(feed(SMTP, early))).toBe('confirmed, hands over');
  });

  test('other protocols', () => {
    const ftp: Said[] = [S('220 FTP ready\r\n'), C('USER x\r\n'), S('331 password\r\n'), C('QUIT\r\n')];
    expect(suggested(SMTP, ftp)).toBe(true);
    expect(verdict(feed(SMTP, ftp))).toBe('unsure');
    expect(suggested(SMTP, [S('+OK hello\r\n')])).toBe(false);
    expect(verdict(feed(SMTP, [S('220 x\r\n'), C('\x16\x03\x01\x02\x00')]))).toBe('rejected');
    expect(verdict(feed(SMTP, [S('220 x\r\n'), S('hello there\r\n')]))).toBe('rejected');
  });
});
