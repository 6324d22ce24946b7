import { find, isAt } from './bytes.ts';
import { charOf, oneOf } from './choice.ts';
import { oneMessage } from './datagram.ts';
import { BAD_HEADER, FrameParser } from './frames.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

const NAME = '\x13BitTorrent protocol';
/** Reserved bits, hash of the torrent, and who it is (BEP 3). */
const REST = 48;

/** The handshake of peers. */
class BittorrentParser extends FrameParser {
  constructor() {
    super(REST);
  }

  protected headerBytes(): number {
    return NAME.length;
  }

  protected header(_fromOrig: 0 | 1, u8: Uint8Array): number {
    // What follows the handshake is not looked at: confirmed with it, the parser is done.
    return isAt(u8, 0, NAME.length, NAME) ? REST : BAD_HEADER;
  }

  protected message(): number {
    return this.confirm() | ServiceNews.done;
  }
}

export const BITTORRENT: Service = {
  name: 'bittorrent',
  transport: 'tcp',
  first: oneOf(NAME.charCodeAt(0)),
  looksLike(u8, offset, length) {
    const size = Math.min(length, NAME.length);
    for (let i = 0; i < size; i++) if (u8[offset + i] !== NAME.charCodeAt(i)) return false;
    return true;
  },
  parser: (): ServiceParser => new BittorrentParser(),
};

/** Beginnings of queries and answers of the DHT (BEP 5): dictionaries are sorted, so these come first. */
const BEGINNINGS = ['d1:ad2:id20:', 'd1:rd2:id20:', 'd2:ip6:', 'd1:eli20'];

/** The distributed hash table, bencoded. */
export const BITTORRENT_DHT: Service = oneMessage('bittorrent', charOf('d'), (u8, offset, length) => {
  const end = offset + length;
  if (length < 20 || u8[offset] !== 0x64 || u8[end - 1] !== 0x65) return false;
  for (const text of BEGINNINGS)
    if (isAt(u8, offset, end, text)) return find(u8, Math.max(offset, end - 64), end, '1:y1:') >= 0;
  return false;
});
