import { FTP } from './ftp.ts';
import { IMAP } from './imap.ts';
import { IRC } from './irc.ts';
import { POP3 } from './pop3.ts';
import type { Service } from './service.ts';
import { SMTP } from './smtp.ts';
import { TLS } from './tls.ts';

/** All that is recognized; where several fit the first bytes, all of them look on until one is sure. */
export const SERVICES: readonly Service[] = [TLS, SMTP, FTP, IMAP, POP3, IRC];
