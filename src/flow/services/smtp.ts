import { contains, decimal, isNews, mayBegin, replyCode, skipBlanks, upperWord, wordEnd } from './ascii.ts';
import { bySide, charOf } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { TextParser } from './text.ts';

/** Commands that only SMTP has. */
const GREETINGS = new Set(['HELO', 'EHLO']);
/** Commands that other protocols have as well: they count when the server has called itself SMTP. */
const OTHERS = new Set([
  'MAIL',
  'RCPT',
  'DATA',
  'RSET',
  'NOOP',
  'QUIT',
  'HELP',
  'VRFY',
  'EXPN',
  'AUTH',
  'BDAT',
]);
/** RFC 3030 allows any size; a chunk that is larger is not followed. */
const MAX_CHUNK = 0x7fffffff;
const DOT = 0x2e;
const DASH = 0x2d;

/** SMTP (RFC 5321) with STARTTLS (RFC 3207), BDAT (RFC 3030) and AUTH (RFC 4954). */
class SmtpParser extends TextParser {
  #ready = false;
  #named = false;
  #greeted = false;
  #command = false;
  /** Replies that the server still owes; the greeting is one. */
  #owed = 1;
  /** Replies until the one to STARTTLS and to DATA comes; 0 for none. */
  #tlsAfter = 0;
  #dataAfter = 0;
  #inData = false;
  #answers = false;

  protected line(fromOrig: 0 | 1, u8: Uint8Array, at: number, length: number): number {
    return fromOrig === 1 ? this.#client(u8, at, length) : this.#server(u8, at, length);
  }

  #client(u8: Uint8Array, at: number, length: number): number {
    if (this.#inData) {
      if (length === 1 && u8[at] === DOT) {
        this.#inData = false;
        this.#owed++;
      }
      return 0;
    }
    this.#owed++;
    if (this.#answers) {
      this.#answers = false;
      return 0;
    }
    const end = at + length;
    const begin = skipBlanks(u8, at, end);
    const word = upperWord(u8, begin, end);
    if (GREETINGS.has(word)) this.#greeted = true;
    else if (OTHERS.has(word)) this.#command = true;
    if (word === 'STARTTLS' || word === 'X-ANONYMOUSTLS') {
      this.#tlsAfter = this.#owed;
    } else if (word === 'DATA') {
      this.#dataAfter = this.#owed;
      this.#inData = true;
    } else if (word === 'BDAT') {
      const from = skipBlanks(u8, begin + 4, end);
      const size = decimal(u8, from, wordEnd(u8, from, end), MAX_CHUNK);
      if (size > 0) this.skip(1, size);
    }
    return this.#judge();
  }

  #server(u8: Uint8Array, at: number, length: number): number {
    const code = replyCode(u8, at, length);
    if (code < 100 || code > 599 || (!this.#ready && isNews(code))) return ServiceNews.rejected;
    this.#ready = true;
    if (!this.#named) this.#named = contains(u8, at, length, 'SMTP');
    if (length > 3 && u8[at + 3] === DASH) return this.#judge();
    if (this.#owed > 0) this.#owed--;
    this.#answers = code === 334;
    if (this.#dataAfter > 0 && --this.#dataAfter === 0 && code !== 354) this.#inData = false;
    const news = this.#judge();
    if (this.#tlsAfter > 0 && --this.#tlsAfter === 0 && code === 220) return news | ServiceNews.handsOver;
    return news;
  }

  #judge(): number {
    return this.#ready && (this.#greeted || (this.#named && this.#command)) ? this.confirm() : 0;
  }
}

export const SMTP: Service = {
  name: 'smtp',
  transport: 'tcp',
  first: bySide(charOf('EH'), charOf('25')),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 1) return mayBegin(u8, offset, length, 'EHLO ') || mayBegin(u8, offset, length, 'HELO ');
    if (length > 3 && u8[offset + 3] !== 0x20 && u8[offset + 3] !== DASH) return false;
    return mayBegin(u8, offset, length, '220') || mayBegin(u8, offset, length, '554');
  },
  parser: (): ServiceParser => new SmtpParser(),
};
