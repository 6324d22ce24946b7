import { begins, mayBegin, skipBlanks, upperWord, wordEnd } from './ascii.ts';
import { bySide, charOf, never } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { TextParser } from './text.ts';

/** What a reply may be to; a positive one to those up to `auth` makes sure that it is POP3. */
const Command = { user: 1, apop: 2, capa: 3, stls: 4, auth: 5, many: 6, other: 7 } as const;
type Command = (typeof Command)[keyof typeof Command];

const COMMANDS = new Map<string, Command>([
  ['USER', Command.user],
  ['APOP', Command.apop],
  ['CAPA', Command.capa],
  ['STLS', Command.stls],
  ['AUTH', Command.auth],
  ['RETR', Command.many],
  ['TOP', Command.many],
]);
/** Commands without an argument that have replies of many lines. */
const LISTS = new Set(['LIST', 'UIDL']);
/** Commands sent ahead of their replies. */
const MAX_PENDING = 64;
const DOT = 0x2e;
const PLUS = 0x2b;

/** POP3 (RFC 1939) with STLS (RFC 2595) and AUTH (RFC 5034). */
class Pop3Parser extends TextParser {
  readonly #pending: Command[] = [];
  #greeted = false;
  /** Lines of a reply follow, until a lone dot. */
  #lines = false;
  /** The client answers the challenges of AUTH. */
  #auth = false;

  protected line(fromOrig: 0 | 1, u8: Uint8Array, at: number, length: number): number {
    if (fromOrig === 0) return this.#server(u8, at, length);
    if (this.#auth || length === 0) return 0;
    const end = at + length;
    const begin = skipBlanks(u8, at, end);
    const word = upperWord(u8, begin, end, 8);
    const argument = skipBlanks(u8, wordEnd(u8, begin, end), end) < end;
    if (this.#pending.length >= MAX_PENDING) return ServiceNews.done;
    const command = LISTS.has(word) && !argument ? Command.many : (COMMANDS.get(word) ?? Command.other);
    this.#pending.push(command === Command.auth && !argument ? Command.many : command);
    if (command === Command.auth && argument) this.#auth = true;
    return 0;
  }

  #server(u8: Uint8Array, at: number, length: number): number {
    if (this.#lines) {
      if (length === 1 && u8[at] === DOT) this.#lines = false;
      return 0;
    }
    const positive = begins(u8, at, length, '+OK');
    if (!positive && !begins(u8, at, length, '-ERR')) {
      if (length > 0 && u8[at] === PLUS && this.#auth) return 0;
      return ServiceNews.rejected;
    }
    if (!this.#greeted) {
      this.#greeted = true;
      return 0;
    }
    const command = this.#pending.shift() ?? Command.other;
    if (command === Command.auth) this.#auth = false;
    if (!positive) return 0;
    if (command === Command.capa || command === Command.many) this.#lines = true;
    if (command > Command.auth) return 0;
    const news = this.confirm();
    return command === Command.stls ? news | ServiceNews.handsOver : news;
  }
}

export const POP3: Service = {
  name: 'pop3',
  transport: 'tcp',
  first: bySide(never, charOf('+')),
  looksLike: (u8, offset, length, fromOrig) => fromOrig === 0 && mayBegin(u8, offset, length, '+OK'),
  parser: (): ServiceParser => new Pop3Parser(),
};
