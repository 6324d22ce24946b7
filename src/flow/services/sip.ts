import { begins, isDigit } from './ascii.ts';
import { charOf } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** RFC 3261, section 7. */
const SPACE = 0x20;
const MAX_METHOD = 16;
const MAX_LINE = 2048;
const VERSION = 'SIP/2.0';

function isReply(u8: Uint8Array, offset: number, length: number): boolean {
  return (
    length >= 11 &&
    begins(u8, offset, length, VERSION) &&
    u8[offset + 7] === SPACE &&
    isDigit(u8[offset + 8]) &&
    isDigit(u8[offset + 9]) &&
    isDigit(u8[offset + 10])
  );
}

/** METHOD, target and version in one line. */
function isRequest(u8: Uint8Array, offset: number, length: number): boolean {
  let i = 0;
  while (i < length && i < MAX_METHOD && u8[offset + i] >= 0x41 && u8[offset + i] <= 0x5a) i++;
  if (i < 2 || i >= length || u8[offset + i] !== SPACE) return false;
  const limit = Math.min(length, MAX_LINE);
  while (i < limit && u8[offset + i] !== 13 && u8[offset + i] !== 10) i++;
  const size = VERSION.length;
  return i < limit && i > size && begins(u8, offset + i - size, size, VERSION);
}

/** SIP over UDP: as in Zeek it takes a reply, from whichever side. */
class SipParser implements ServiceParser {
  data(_fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    if (isReply(u8, offset, length)) return ServiceNews.confirmed | ServiceNews.done;
    // Empty lines keep a way through address translation open.
    if (isRequest(u8, offset, length) || length <= 4) return 0;
    return ServiceNews.rejected;
  }
}

const PARSER = new SipParser();

export const SIP: Service = {
  name: 'sip',
  transport: 'udp',
  first: charOf('ABCDEFGHIJKLMNOPQRSTUVWXYZ'),
  looksLike: (u8, offset, length) => isReply(u8, offset, length) || isRequest(u8, offset, length),
  parser: () => PARSER,
};
