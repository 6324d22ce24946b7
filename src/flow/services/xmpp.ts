import { charOf } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { contains } from './text.ts';

/** Bytes of a tag that are looked at. */
const MAX_TAG = 512;
/** Zeek forgives violations after so many bytes, and TLS starts early. */
const ENOUGH = 10_240;
const OPEN = 0x3c;
const CLOSE = 0x3e;

/** What comes when TLS is no longer started: authenticated, or servers calling back. */
const LATE = ['<SUCCESS', '<MESSAGE', '<PRESENCE', '<DB:RESULT', '<DB:VERIFY'];

class TagSide {
  readonly tag = new Uint8Array(MAX_TAG);
  length = 0;
  open = false;
  begun = false;
}

/** XMPP (RFC 6120): the stream header of the client, and STARTTLS. */
class XmppParser implements ServiceParser {
  rest = 0;
  readonly #sides: readonly [TagSide, TagSide] = [new TagSide(), new TagSide()];
  #sure = false;
  #tls = false;
  #seen = 0;
  #over = 0;

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    if (this.#over !== 0) return this.#over;
    const side = this.#sides[fromOrig];
    const end = offset + length;
    this.#seen += length;
    let news = 0;
    for (let at = offset; at < end; at++) {
      const byte = u8[at];
      if (!side.open) {
        side.open = byte === OPEN;
        if (!side.open && !side.begun && byte > 0x20) return this.#end(ServiceNews.rejected);
        side.begun ||= side.open;
        side.length = 0;
      }
      if (!side.open) continue;
      if (side.length < MAX_TAG) side.tag[side.length++] = byte;
      if (byte !== CLOSE) continue;
      side.open = false;
      news |= this.#tag(fromOrig, side);
      if ((news & (ServiceNews.rejected | ServiceNews.done | ServiceNews.handsOver)) !== 0) {
        this.rest = end - at - 1;
        return this.#end(news);
      }
    }
    if (this.#seen > ENOUGH) return this.#end(this.#sure ? news : news | ServiceNews.rejected);
    return news;
  }

  #tag(fromOrig: 0 | 1, side: TagSide): number {
    const { tag, length } = side;
    if (is(tag, length, '<STREAM:STREAM')) {
      if (!contains(tag, 0, length, 'JABBER')) return ServiceNews.rejected;
      if (fromOrig === 0 || this.#sure) return 0;
      this.#sure = true;
      return ServiceNews.confirmed;
    }
    if (!this.#sure) return fromOrig === 0 || is(tag, length, '<?XML') ? 0 : ServiceNews.rejected;
    if (fromOrig === 1 && is(tag, length, '<STARTTLS')) this.#tls = true;
    else if (fromOrig === 0 && is(tag, length, '<PROCEED')) return this.#tls ? ServiceNews.handsOver : 0;
    for (const late of LATE) if (is(tag, length, late)) return ServiceNews.done;
    return 0;
  }

  #end(news: number): number {
    this.#over = (news & ServiceNews.rejected) | ServiceNews.done;
    return news | ServiceNews.done;
  }
}

/** Whether the tag has that name. */
function is(tag: Uint8Array, length: number, name: string): boolean {
  if (length <= name.length || !contains(tag, 0, name.length, name)) return false;
  const after = tag[name.length];
  return after === CLOSE || after === 0x2f || after <= 0x20;
}

export const XMPP: Service = {
  name: 'xmpp',
  transport: 'tcp',
  first: charOf('<'),
  looksLike(u8, offset, length) {
    return begins(u8, offset, length, '<?xml') || begins(u8, offset, length, '<stream:stream');
  },
  parser: (): ServiceParser => new XmppParser(),
};

function begins(u8: Uint8Array, offset: number, length: number, text: string): boolean {
  const size = Math.min(length, text.length);
  for (let i = 0; i < size; i++) if (u8[offset + i] !== text.charCodeAt(i)) return false;
  return true;
}
