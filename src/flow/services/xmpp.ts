import { contains, mayBegin } from './ascii.ts';
import { charOf } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { isOver, TcpParser } from './tcp-parser.ts';

/** Bytes of a tag that are looked at. */
const MAX_TAG = 512;
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
class XmppParser extends TcpParser {
  readonly #sides: readonly [TagSide, TagSide] = [new TagSide(), new TagSide()];
  #tls = false;

  protected read(fromOrig: 0 | 1, u8: Uint8Array, from: number, end: number): number {
    const side = this.#sides[fromOrig];
    let news = 0;
    for (let at = from; at < end; at++) {
      const byte = u8[at];
      if (!side.open) {
        side.open = byte === OPEN;
        if (!side.open && !side.begun && byte > 0x20) return ServiceNews.rejected;
        side.begun ||= side.open;
        side.length = 0;
      }
      if (!side.open) continue;
      if (side.length < MAX_TAG) side.tag[side.length++] = byte;
      if (byte !== CLOSE) continue;
      side.open = false;
      news |= this.#tag(fromOrig, side);
      if (isOver(news)) {
        this.rest = end - at - 1;
        return news;
      }
    }
    return !this.sure && this.seen > this.enough ? news | ServiceNews.rejected : news;
  }

  #tag(fromOrig: 0 | 1, side: TagSide): number {
    const { tag, length } = side;
    if (is(tag, length, '<STREAM:STREAM')) {
      if (!contains(tag, 0, length, 'JABBER')) return ServiceNews.rejected;
      return fromOrig === 0 ? 0 : this.confirm();
    }
    if (!this.sure) return fromOrig === 0 || is(tag, length, '<?XML') ? 0 : ServiceNews.rejected;
    if (fromOrig === 1 && is(tag, length, '<STARTTLS')) this.#tls = true;
    else if (fromOrig === 0 && is(tag, length, '<PROCEED')) return this.#tls ? ServiceNews.handsOver : 0;
    for (const late of LATE) if (is(tag, length, late)) return ServiceNews.done;
    return 0;
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
    return mayBegin(u8, offset, length, '<?XML') || mayBegin(u8, offset, length, '<STREAM:STREAM');
  },
  parser: (): ServiceParser => new XmppParser(),
};
