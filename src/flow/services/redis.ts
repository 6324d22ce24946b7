import { decimal, upperWord, wordEnd } from './ascii.ts';
import { bySide, charOf } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { TextParser } from './text.ts';

const PORT = 6379;
/** A value may have 512 MB; Zeek reads up to one. */
const MAX_BULK = 1 << 29;
const ARRAY = 0x2a;
const BULK = 0x24;
const MINUS = 0x2d;

/** What a reply line of RESP 3 begins with: those with text behind it, with a number, with a length of bytes. */
const TEXTS = '+-_#,(';
const NUMBERS = ':*%~>|';
const BULKS = '$!=';
const REPLIES = TEXTS + NUMBERS + BULKS;

/** Redis, RESP 2 and 3: confirmed by the server's reply to what a client of Redis says. */
class RedisParser extends TextParser {
  readonly #port: number;
  #asked = false;

  constructor(respPort: number) {
    super();
    this.#port = respPort;
  }

  protected line(fromOrig: 0 | 1, u8: Uint8Array, at: number, length: number): number {
    if (length === 0) return 0;
    const end = at + length;
    const type = String.fromCharCode(u8[at]);
    if (fromOrig === 1) {
      if (u8[at] === ARRAY || u8[at] === BULK) {
        const size = decimal(u8, at + 1, end, MAX_BULK);
        if (size < 0) return ServiceNews.rejected;
        this.#asked = true;
        if (u8[at] === BULK) this.skip(1, size + 2);
        return 0;
      }
      // A command typed by hand is text as in many protocols.
      if (upperWord(u8, at, wordEnd(u8, at, end)) === '' || this.#port !== PORT)
        return this.sure ? 0 : ServiceNews.rejected;
      this.#asked = true;
      return 0;
    }
    if (BULKS.includes(type) || NUMBERS.includes(type)) {
      const negative = length > 1 && u8[at + 1] === MINUS;
      const size = decimal(u8, at + (negative ? 2 : 1), end, Number.MAX_SAFE_INTEGER);
      if (size < 0) return ServiceNews.rejected;
      if (BULKS.includes(type) && !negative) {
        if (size > MAX_BULK) return ServiceNews.rejected;
        this.skip(0, size + 2);
      }
    } else if (!TEXTS.includes(type)) {
      return ServiceNews.rejected;
    }
    return this.#asked ? this.confirm() : 0;
  }
}

function isReply(byte: number): boolean {
  for (let i = 0; i < REPLIES.length; i++) if (REPLIES.charCodeAt(i) === byte) return true;
  return false;
}

export const REDIS: Service = {
  name: 'redis',
  transport: 'tcp',
  first: bySide(charOf('*ABCDEFGHIJKLMNOPQRSTUVWXYZ'), isReply),
  looksLike(u8, offset, length, fromOrig, respPort) {
    const first = u8[offset];
    if (fromOrig === 0) return respPort === PORT && isReply(first);
    if (first !== ARRAY) return respPort === PORT && (first | 0x20) >= 0x61 && (first | 0x20) <= 0x7a;
    return length < 2 || (u8[offset + 1] >= 0x31 && u8[offset + 1] <= 0x39);
  },
  parser: (respPort): ServiceParser => new RedisParser(respPort),
};
