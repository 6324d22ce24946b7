import { charOf } from './choice.ts';
import { LineReader } from './line-reader.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** RFC 4253 sections 6 and 7.1, RFC 4250 section 4.1.2. */
const NEWKEYS = 21;
const MAX_PACKET = 262_144;
/** Of protocol 1: the client's encrypted session key. */
const SESSION_KEY = 3;
/** Lines that a server may send before its version (RFC 4253 section 4.2). */
const MAX_LINES = 32;
const MARK = 'ssh-';

class Side {
  readonly line = new LineReader(64);
  lines = 0;
  /** Major version: 1 or 2 (1.99 speaks both and counts as 2); 0 while unknown. */
  version = 0;
  /** Header of a packet: the length, for protocol 2 the padding length, the message number. */
  have = 0;
  length = 0;
  left = 0;
  type = 0;
  /** What follows is encrypted. */
  keyed = false;
}

function isMark(u8: Uint8Array, offset: number, length: number): boolean {
  const size = Math.min(length, MARK.length);
  for (let i = 0; i < size; i++) if ((u8[offset + i] | 0x20) !== (MARK.charCodeAt(i) | 0x20)) return false;
  return length <= 4 || u8[offset + 4] === 0x31 || u8[offset + 4] === 0x32;
}

/**
 * SSH, confirmed as in Zeek: both have said their version, and one side switches to the new keys. Looks on until the other
 * side has, too.
 */
class SshParser implements ServiceParser {
  readonly #sides: readonly [Side, Side] = [new Side(), new Side()];
  #sure = false;

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    const side = this.#sides[fromOrig];
    const end = offset + length;
    let at = offset;
    while (side.version === 0) {
      at = side.line.take(u8, at, end);
      if (at < 0) return 0;
      if (!version(side, fromOrig)) return ServiceNews.rejected;
    }
    const one = this.#protocolOne();
    while (at < end && !side.keyed) {
      if (side.left > 0) {
        const size = Math.min(end - at, side.left);
        side.left -= size;
        at += size;
        continue;
      }
      const news = one ? this.#oldByte(side, fromOrig, u8[at]) : this.#byte(side, u8[at]);
      if (news !== 0) return news;
      at++;
    }
    return 0;
  }

  #protocolOne(): boolean {
    return this.#sides[0].version === 1 || this.#sides[1].version === 1;
  }

  #byte(side: Side, byte: number): number {
    side.have++;
    if (side.have <= 4) {
      side.length = ((side.length << 8) | byte) >>> 0;
      if (side.have === 4 && (side.length < 5 || side.length > MAX_PACKET)) return ServiceNews.rejected;
      return 0;
    }
    if (side.have === 5) return byte < 4 || byte + 2 > side.length ? ServiceNews.rejected : 0;
    // Up to the new keys only messages of the transport layer may come.
    if (byte === 0 || byte > 49) return ServiceNews.rejected;
    if (byte === NEWKEYS) return this.#keyed(side);
    side.left = side.length - 2;
    side.have = 0;
    side.length = 0;
    return 0;
  }

  /** Protocol 1: length, padding up to a multiple of 8, type. */
  #oldByte(side: Side, fromOrig: 0 | 1, byte: number): number {
    side.have++;
    if (side.have <= 4) {
      side.length = ((side.length << 8) | byte) >>> 0;
      if (side.have < 4) return 0;
      if (side.length < 5 || side.length > MAX_PACKET) return ServiceNews.rejected;
      side.left = 8 - (side.length % 8);
      return 0;
    }
    if (byte === SESSION_KEY && fromOrig === 1) {
      this.#sides[0].keyed = true;
      return this.#keyed(side);
    }
    side.left = side.length - 1;
    side.have = 0;
    side.length = 0;
    return 0;
  }

  #keyed(side: Side): number {
    const [a, b] = this.#sides;
    if (a.version === 0 || b.version === 0) return ServiceNews.rejected;
    side.keyed = true;
    const first = this.#sure ? 0 : ServiceNews.confirmed;
    this.#sure = true;
    return a.keyed && b.keyed ? first | ServiceNews.encrypted | ServiceNews.done : first;
  }
}

function version(side: Side, fromOrig: 0 | 1): boolean {
  const { u8, offset, length } = side.line;
  if (length >= 5 && isMark(u8, offset, length)) {
    const digit = u8[offset + 4] - 0x30;
    // 1.99
    const both = length > 6 && u8[offset + 6] === 0x39;
    side.version = digit === 1 && both ? 2 : digit;
    return true;
  }
  side.lines++;
  return fromOrig === 0 && side.lines < MAX_LINES;
}

export const SSH: Service = {
  name: 'ssh',
  transport: 'tcp',
  first: charOf('S'),
  looksLike: isMark,
  parser: () => new SshParser(),
};
