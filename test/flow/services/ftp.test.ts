import { describe, expect, test } from 'vitest';
import { FTP, type FtpParser } from '../../../src/flow/services/ftp.ts';
import { C, feed, S, type Said, stands, verdict } from './support.ts';

const session: Said[] = [
  S('220-welcome\r\n to this\r\n220 FTP server ready.\r\n'),
  C('USER anonymous\r\n'),
  S('331 password\r\n'),
  C('PASS x\r\n'),
  S('230-lines\r\nof text\r\n230 in\r\n'),
  C('PORT 192,168,1,2,201,7\r\n'),
  S('200 ok\r\n'),
  C('EPRT |2|2001:db8::1|5282|\r\n'),
  S('200 ok\r\n'),
  C('PASV\r\n'),
  S('227 Entering Passive Mode (10,0,0,9,4,1).\r\n'),
  C('EPSV\r\n'),
  S('229 Entering Extended Passive Mode (|||6446|)\r\n'),
];

const tls: Said[] = [
  S('220 (vsFTPd 3.0.5)\r\n'),
  C('FEAT\r\n'),
  S('211-Features:\r\n EPRT\r\n211 End\r\n'),
  C('AUTH TLS\r\n'),
  S('234 Proceed.\r\n'),
];

describe('ftp', () => {
  stands(FTP, { session, tls });

  test('confirmed by a reply and a command', () => {
    expect(verdict(feed(FTP, session))).toBe('confirmed');
    expect(verdict(feed(FTP, session.slice(0, 1)))).toBe('unsure');
    expect(verdict(feed(FTP, tls))).toBe('confirmed, hands over');
  });

  test('announces data connections', () => {
    expect((feed(FTP, session).parser as FtpParser).announced).toEqual([
      { service: 'ftp-data', byOrig: 1, host: '192.168.1.2', port: 51_463 },
      { service: 'ftp-data', byOrig: 1, host: '2001:db8::1', port: 5282 },
      { service: 'ftp-data', byOrig: 0, host: '10.0.0.9', port: 1025 },
      { service: 'ftp-data', byOrig: 0, host: undefined, port: 6446 },
    ]);
  });

  test.each([
    'PORT 192,168,1,2,201',
    'PORT 192,168,1,256,1,1',
    'PORT 1,2,3,4,0,0',
    'PORT',
    'EPRT |1|1.2.3.4|70000|',
    'EPRT |1||80|',
    'EPRT |1|../../x|80|',
    'EPRT ',
  ])('not %s', (command) => {
    const said = [S('220 x\r\n'), C(`${command}\r\n`)];
    expect((feed(FTP, said).parser as FtpParser).announced).toEqual([]);
  });

  test.each(['SYST not supported', '99 low', '2300 no blank', '23'])('reply %s ends it', (reply) => {
    const said = [...session.slice(0, 4), S(`${reply}\r\n`)];
    expect(verdict(feed(FTP, said))).toBe('confirmed, rejected');
  });

  test('SMTP is not FTP', () => {
    const smtp = [S('220 x ESMTP\r\n'), C('EHLO x\r\n'), S('250 AUTH\r\n'), C('QUIT\r\n')];
    expect(verdict(feed(FTP, smtp))).toBe('unsure');
  });
});
