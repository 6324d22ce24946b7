import { begins, decimal, mayBegin, upperWord } from './ascii.ts';
import { bySide, charOf, never } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { TextParser } from './text.ts';

/** What servers say of themselves first (RFC 5804 section 1.7). */
const CAPABILITIES =
  '"IMPLEMENTATION" "SASL" "SIEVE" "STARTTLS" "MAXREDIRECTS" "NOTIFY" "LANGUAGE" "OWNER" "VERSION"'.split(
    ' ',
  );
const COMMANDS = new Set(['CAPABILITY', 'STARTTLS', 'AUTHENTICATE', 'NOOP', 'LOGOUT']);
/** These take a user who has logged in: no STARTTLS comes any more. */
const LATE = new Set(
  'HAVESPACE PUTSCRIPT LISTSCRIPTS SETACTIVE GETSCRIPT DELETESCRIPT RENAMESCRIPT CHECKSCRIPT UNAUTHENTICATE'.split(
    ' ',
  ),
);
const MAX_LITERAL = 65_536;
const QUOTE = 0x22;
const OPEN = 0x7b;
const CLOSE = 0x7d;

/** ManageSieve (RFC 5804) with STARTTLS. */
class SieveParser extends TextParser {
  /** A capability that no other protocol has, the OK after all of them, and a command of the client. */
  #named = false;
  #ready = false;
  #command = false;
  /** The line goes on behind a literal. */
  #literal = false;
  /** Replies that the server owes, and until the one to STARTTLS comes; 0 for none. */
  #owed = 0;
  #tlsAfter = 0;
  /** The client answers the challenges of AUTHENTICATE. */
  #auth = false;

  protected line(fromOrig: 0 | 1, u8: Uint8Array, at: number, length: number): number {
    return fromOrig === 1 ? this.#client(u8, at, length) : this.#server(u8, at, length);
  }

  #client(u8: Uint8Array, at: number, length: number): number {
    if (this.#auth || length === 0) return 0;
    const word = upperWord(u8, at, at + length);
    if (LATE.has(word)) return this.#ready ? this.confirm() | ServiceNews.done : ServiceNews.rejected;
    if (!COMMANDS.has(word)) return this.sure ? 0 : ServiceNews.rejected;
    this.#command = true;
    this.#owed++;
    if (word === 'STARTTLS') this.#tlsAfter = this.#owed;
    this.#auth = word === 'AUTHENTICATE';
    return this.#judge();
  }

  #server(u8: Uint8Array, at: number, length: number): number {
    const behind = this.#literal;
    const size = literalSize(u8, at, length);
    this.#literal = size >= 0;
    if (size > 0) this.skip(0, size);
    if (behind) return 0;
    if (length > 0 && u8[at] === QUOTE) {
      this.#named ||= begins(u8, at, length, '"IMPLEMENTATION"') || begins(u8, at, length, '"SIEVE"');
      return 0;
    }
    const word = upperWord(u8, at, at + length);
    if (word !== 'OK' && word !== 'NO' && word !== 'BYE') return this.sure ? 0 : ServiceNews.rejected;
    return this.#reply(word === 'OK');
  }

  #reply(positive: boolean): number {
    if (!this.#ready) {
      this.#ready = positive && this.#named;
      return this.#ready ? this.#judge() : ServiceNews.rejected;
    }
    const isTls = this.#tlsAfter > 0 && --this.#tlsAfter === 0;
    const isAuth = this.#auth && this.#owed === 1;
    if (this.#owed > 0) this.#owed--;
    const news = this.#judge();
    if (isAuth) this.#auth = false;
    if (!positive) return news;
    if (isTls) return news | ServiceNews.handsOver;
    return isAuth ? news | ServiceNews.done : news;
  }

  #judge(): number {
    return this.#ready && this.#command ? this.confirm() : 0;
  }
}

/** The bytes of a literal that the line ends with; -1 when it ends with none. */
function literalSize(u8: Uint8Array, at: number, length: number): number {
  const end = at + length;
  if (length < 3 || u8[end - 1] !== CLOSE) return -1;
  let open = end - 2;
  while (open > at && u8[open] !== OPEN) open--;
  return u8[open] === OPEN ? decimal(u8, open + 1, end - 1, MAX_LITERAL) : -1;
}

export const SIEVE: Service = {
  name: 'sieve',
  transport: 'tcp',
  first: bySide(never, charOf('"')),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 1) return false;
    for (const capability of CAPABILITIES) if (mayBegin(u8, offset, length, capability)) return true;
    return false;
  },
  parser: (): ServiceParser => new SieveParser(),
};
