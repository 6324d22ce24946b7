import { isNews, mayBegin, replyCode, skipBlanks, upperWord, wordEnd } from './ascii.ts';
import { bySide, charOf, never } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { TextParser } from './text.ts';

/** What a reply may be to. All but `other` are of NNTP alone. */
const Command = { other: 0, own: 1, listGroup: 2, startTls: 3 } as const;
type Command = (typeof Command)[keyof typeof Command];

/** Left out is what other protocols have that greet alike (LIST, STAT, USER …). MODE counts with these arguments. */
const OWN = new Set(
  'CAPABILITIES GROUP LISTGROUP ARTICLE HEAD BODY OVER XOVER HDR XHDR XPAT NEWNEWS NEWGROUPS IHAVE CHECK TAKETHIS POST AUTHINFO STARTTLS COMPRESS XFEATURE XZVER'.split(
    ' ',
  ),
);
const MODES = new Set(['READER', 'STREAM']);
/** Commands sent ahead of their replies. */
const MAX_PENDING = 64;

/** Replies behind which lines follow, until a lone dot (RFC 3977, RFC 2980): 211 only when LISTGROUP has asked. */
const WITH_LINES = new Set([100, 101, 215, 220, 221, 222, 224, 225, 230, 231, 282]);
const GROUP = 211;
/** The client is to send an article. */
const SEND = new Set([335, 340]);
const CONTINUE_TLS = 382;
const CHALLENGE = 383;
/** From here on replies, or both sides, are compressed (RFC 8054, XFEATURE). */
const COMPRESSED = new Set([206, 290]);
const UNKNOWN_COMMAND = 500;
const DOT = 0x2e;
const SPACE = 0x20;

/** NNTP (RFC 3977) with STARTTLS (RFC 4642), AUTHINFO (RFC 4643) and streaming (RFC 4644). */
class NntpParser extends TextParser {
  readonly #pending: Command[] = [];
  #greeted = false;
  /** Lines of a reply follow, until a lone dot. */
  #lines = false;
  /** And of an article from the client; whether a reply of its own comes after it. */
  #article = false;
  #asked = false;
  /** The client's next line answers a challenge. */
  #answers = false;

  protected line(fromOrig: 0 | 1, u8: Uint8Array, at: number, length: number): number {
    return fromOrig === 1 ? this.#client(u8, at, length) : this.#server(u8, at, length);
  }

  #client(u8: Uint8Array, at: number, length: number): number {
    if (this.#article) {
      if (length !== 1 || u8[at] !== DOT) return 0;
      this.#article = false;
      return this.#asked ? this.#expect(Command.own) : 0;
    }
    if (length === 0) return 0;
    if (this.#answers) {
      this.#answers = false;
      return this.#expect(Command.own);
    }
    const end = at + length;
    const begin = skipBlanks(u8, at, end);
    const word = upperWord(u8, begin, end);
    if (word === 'TAKETHIS') {
      this.#article = true;
      this.#asked = false;
    }
    return this.#expect(commandOf(word, u8, wordEnd(u8, begin, end), end));
  }

  #expect(command: Command): number {
    return this.#pending.push(command) > MAX_PENDING ? ServiceNews.done : 0;
  }

  #server(u8: Uint8Array, at: number, length: number): number {
    if (this.#lines) {
      if (length === 1 && u8[at] === DOT) this.#lines = false;
      return 0;
    }
    const code = replyCode(u8, at, length);
    if (code < 100 || code > 599 || (length > 3 && u8[at + 3] !== SPACE)) return ServiceNews.rejected;
    if (!this.#greeted) {
      this.#greeted = true;
      return isNews(code) ? 0 : ServiceNews.rejected;
    }
    const command = this.#pending.shift() ?? Command.other;
    this.#lines = WITH_LINES.has(code) || (code === GROUP && command === Command.listGroup);
    this.#answers = code === CHALLENGE;
    if (SEND.has(code)) {
      this.#article = true;
      this.#asked = true;
    }
    if (command === Command.other || code === UNKNOWN_COMMAND) return 0;
    const news = this.confirm();
    if (COMPRESSED.has(code)) return news | ServiceNews.done;
    return command === Command.startTls && code === CONTINUE_TLS ? news | ServiceNews.handsOver : news;
  }
}

function commandOf(word: string, u8: Uint8Array, at: number, end: number): Command {
  if (word === 'STARTTLS') return Command.startTls;
  if (word === 'LISTGROUP') return Command.listGroup;
  if (word === 'MODE') return MODES.has(upperWord(u8, skipBlanks(u8, at, end), end)) ? Command.own : 0;
  return OWN.has(word) ? Command.own : Command.other;
}

export const NNTP: Service = {
  name: 'nntp',
  transport: 'tcp',
  first: bySide(never, charOf('2')),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 1 || (length > 3 && u8[offset + 3] > SPACE)) return false;
    return mayBegin(u8, offset, length, '200') || mayBegin(u8, offset, length, '201');
  },
  parser: (): ServiceParser => new NntpParser(),
};
