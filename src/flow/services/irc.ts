import { mayBegin, replyCode, skipBlanks, upperWord, wordEnd } from './ascii.ts';
import { bySide, charOf } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { TextParser } from './text.ts';

/** With these a client or server registers (RFC 2812, IRCv3 capabilities). */
const REGISTER = new Set(['NICK', 'USER', 'CAP', 'SERVER', 'STARTTLS', 'AUTHENTICATE', 'WEBIRC', 'PASS']);
/** What servers send before they know the client. */
const SERVER = new Set(['NOTICE', 'CAP', 'PING', 'SERVER', 'ERROR', 'AUTHENTICATE', 'PASS']);
const RPL_STARTTLS = 670;
const COLON = 0x3a;

/** IRC (RFC 1459, RFC 2812) with STARTTLS. */
class IrcParser extends TextParser {
  #client = false;
  #server = false;

  protected line(fromOrig: 0 | 1, u8: Uint8Array, at: number, length: number): number {
    const end = at + length;
    let from = skipBlanks(u8, at, end);
    if (from === end) return 0;
    const prefixed = u8[from] === COLON;
    if (prefixed) from = skipBlanks(u8, wordEnd(u8, from, end), end);
    const word = upperWord(u8, from, end);
    if (fromOrig === 1) {
      if (REGISTER.has(word) && (word !== 'USER' || parameters(u8, from, end) >= 4))
        this.#client ||= word !== 'PASS';
      else if (!this.sure && word === '') return ServiceNews.rejected;
    } else {
      const code = word.length === 3 ? replyCode(u8, from, end - from) : -1;
      if (SERVER.has(word) || (code >= 0 && prefixed)) this.#server = true;
      else if (!this.sure && !prefixed) return ServiceNews.rejected;
      if (code === RPL_STARTTLS && this.#client) return this.confirm() | ServiceNews.handsOver;
    }
    return this.#client && this.#server ? this.confirm() : 0;
  }
}

/** Words after the first; what follows a colon is one. */
function parameters(u8: Uint8Array, at: number, end: number): number {
  let count = 0;
  let from = skipBlanks(u8, wordEnd(u8, at, end), end);
  while (from < end) {
    count++;
    if (u8[from] === COLON) break;
    from = skipBlanks(u8, wordEnd(u8, from, end), end);
  }
  return count;
}

const FIRST = ['NICK ', 'USER ', 'CAP ', 'PASS ', 'SERVER ', 'STARTTLS', 'WEBIRC ', 'AUTHENTICATE '];

export const IRC: Service = {
  name: 'irc',
  transport: 'tcp',
  first: bySide(charOf('NUCPSWA'), charOf(':NP')),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 1) {
      for (const text of FIRST) if (mayBegin(u8, offset, length, text)) return true;
      return false;
    }
    return (
      u8[offset] === COLON || mayBegin(u8, offset, length, 'NOTICE ') || mayBegin(u8, offset, length, 'PING ')
    );
  },
  parser: (): ServiceParser => new IrcParser(),
};
