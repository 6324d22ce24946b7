import { mayBegin, skipBlanks, upperWord, wordEnd } from './ascii.ts';
import { bySide, charOf } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { TextParser } from './text.ts';

const COMMANDS = new Set(
  'CAPABILITY NOOP LOGOUT STARTTLS AUTHENTICATE LOGIN ENABLE SELECT EXAMINE CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE LIST LSUB NAMESPACE STATUS APPEND IDLE ID CLOSE UNSELECT EXPUNGE SEARCH FETCH STORE COPY MOVE UID CHECK'.split(
    ' ',
  ),
);
/** After these no STARTTLS comes any more. */
const LATE = new Set(['AUTHENTICATE', 'LOGIN', 'EXAMINE', 'CREATE', 'LIST', 'FETCH']);
const MAX_TAG = 32;
const STAR = 0x2a;

/** IMAP (RFC 3501, RFC 9051) with STARTTLS. */
class ImapParser extends TextParser {
  /** Tag of the client's STARTTLS. */
  #tls = '';

  protected line(fromOrig: 0 | 1, u8: Uint8Array, at: number, length: number): number {
    const end = at + length;
    const tag = wordEnd(u8, at, end);
    const from = skipBlanks(u8, tag, end);
    const word = upperWord(u8, from, end);
    if (fromOrig === 0) {
      if (tag - at === 1 && u8[at] === STAR) return word === 'OK' || word === 'PREAUTH' ? this.confirm() : 0;
      if (this.#tls !== '' && upperWord(u8, at, end, MAX_TAG) === this.#tls) {
        this.#tls = '';
        if (word === 'OK') return this.confirm() | ServiceNews.handsOver;
      }
      return 0;
    }
    if (!COMMANDS.has(word) || !isTag(u8, at, tag)) return this.sure ? 0 : ServiceNews.rejected;
    const news = this.confirm();
    if (LATE.has(word)) return news | ServiceNews.done;
    if (word === 'STARTTLS') this.#tls = upperWord(u8, at, end, MAX_TAG);
    return news;
  }
}

/** A tag (RFC 9051 section 9): here letters, digits and . - _ only, so that other protocols are not taken for it. */
function isTag(u8: Uint8Array, at: number, end: number): boolean {
  if (end === at || end - at > MAX_TAG) return false;
  for (let i = at; i < end; i++) {
    const byte = u8[i];
    if (!isLetter(byte) && !(byte >= 0x30 && byte <= 0x39) && byte !== 0x2e && byte !== 0x2d && byte !== 0x5f)
      return false;
  }
  return true;
}

function isLetter(byte: number): boolean {
  return (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
}

export const IMAP: Service = {
  name: 'imap',
  transport: 'tcp',
  first: bySide(charOf('ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_'), charOf('*')),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 0)
      return mayBegin(u8, offset, length, '* OK ') || mayBegin(u8, offset, length, '* PREAUTH ');
    const end = offset + length;
    const tag = wordEnd(u8, offset, end);
    // The tag alone says nothing: with it has to come a command.
    if (tag >= end || !isTag(u8, offset, tag)) return false;
    let to = tag + 1;
    while (to < end && isLetter(u8[to])) to++;
    if (to === tag + 1 || (to < end && u8[to] > 0x20)) return false;
    return COMMANDS.has(upperWord(u8, tag + 1, to));
  },
  parser: (): ServiceParser => new ImapParser(),
};
