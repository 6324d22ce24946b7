import { begins, contains, isNews, mayBegin, replyCode, skipBlanks, upperWord } from './ascii.ts';
import { bySide, charOf } from './choice.ts';
import { announcedByCommand, announcedByReply } from './ftp-address.ts';
import { type Announced, type Service, ServiceNews, type ServiceParser } from './service.ts';
import { TextParser } from './text.ts';

/** Commands that no other protocol with such replies has (RFC 959, 2228, 2389, 2428, 3659, 7151). */
const COMMANDS = new Set(
  'USER PASS ACCT CWD XCWD CDUP XCUP SMNT REIN PORT PASV TYPE STRU MODE RETR STOR STOU APPE ALLO REST RNFR RNTO ABOR DELE RMD XRMD MKD XMKD PWD XPWD LIST NLST SITE SYST ADAT PBSZ PROT CCC MIC CONF ENC EPRT EPSV FEAT OPTS HOST CLNT MDTM SIZE MLST MLSD'.split(
    ' ',
  ),
);
/** Commands of SMTP as well: they count when the server has called itself FTP. */
const OTHERS = new Set(['AUTH', 'QUIT', 'NOOP', 'HELP', 'STAT']);
/** Data connections are announced for as long as a session lasts. */
const ENOUGH = 1 << 20;
/** Announced and not yet fetched. */
const MAX_ANNOUNCED = 16;
const DASH = 0x2d;
const SPACE = 0x20;

/** FTP control connection (RFC 959) with AUTH TLS (RFC 4217); announces the data connections. */
export class FtpParser extends TextParser {
  /** Data connections that were agreed upon; whoever uses them takes them out. */
  readonly announced: Announced[] = [];
  protected override enough = ENOUGH;
  #ready = false;
  #named = false;
  #command = false;
  #other = false;
  /** Code of the multi-line reply that goes on. */
  #pending = 0;
  #tls = false;

  protected line(fromOrig: 0 | 1, u8: Uint8Array, at: number, length: number): number {
    if (length === 0) return 0;
    return fromOrig === 1 ? this.#client(u8, at, length) : this.#server(u8, at, length);
  }

  #client(u8: Uint8Array, at: number, length: number): number {
    const end = at + length;
    const begin = skipBlanks(u8, at, end);
    const word = upperWord(u8, begin, end, 4);
    if (COMMANDS.has(word)) this.#command = true;
    else if (OTHERS.has(word)) this.#other = true;
    const from = skipBlanks(u8, begin + word.length, end);
    if (word === 'AUTH')
      this.#tls = begins(u8, from, end - from, 'TLS') || begins(u8, from, end - from, 'SSL');
    else if (word === 'PORT' || word === 'EPRT') this.#announce(announcedByCommand(word, u8, from, end));
    return this.#judge();
  }

  #server(u8: Uint8Array, at: number, length: number): number {
    const code = replyCode(u8, at, length);
    if (this.#pending !== 0) {
      if (code !== this.#pending || (length > 3 && u8[at + 3] !== SPACE)) return 0;
      this.#pending = 0;
    } else {
      if (code < 100 || (!this.#ready && isNews(code))) return ServiceNews.rejected;
      if (length > 3 && u8[at + 3] === DASH) this.#pending = code;
      else if (length > 3 && u8[at + 3] !== SPACE) return ServiceNews.rejected;
    }
    if (code < 400) this.#ready = true;
    if (!this.#named) this.#named = contains(u8, at, length, 'FTP');
    const news = this.#judge();
    if (this.#pending !== 0) return news;
    if (code === 234 && this.#tls) return news | ServiceNews.handsOver;
    if (code === 227 || code === 229) this.#announce(announcedByReply(code, u8, at + 3, at + length));
    return news;
  }

  #announce(announced: Announced | undefined): void {
    if (announced !== undefined && this.announced.length < MAX_ANNOUNCED) this.announced.push(announced);
  }

  #judge(): number {
    return this.#ready && (this.#command || (this.#named && this.#other)) ? this.confirm() : 0;
  }
}

export const FTP: Service = {
  name: 'ftp',
  transport: 'tcp',
  first: bySide(charOf('UAF'), charOf('12')),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 1)
      return (
        mayBegin(u8, offset, length, 'USER ') ||
        mayBegin(u8, offset, length, 'AUTH ') ||
        mayBegin(u8, offset, length, 'FEAT\r')
      );
    if (length > 3 && u8[offset + 3] !== SPACE && u8[offset + 3] !== DASH) return false;
    return mayBegin(u8, offset, length, '220') || mayBegin(u8, offset, length, '120');
  },
  parser: (): ServiceParser => new FtpParser(),
};
