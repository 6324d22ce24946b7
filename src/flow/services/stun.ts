import { u16be, u32be } from './bytes.ts';
import { between } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** RFC 8489, section 5. */
const HEADER = 20;
const COOKIE = 0x2112a442;

function isStun(u8: Uint8Array, offset: number, length: number): boolean {
  if (length < HEADER || (u8[offset] & 0xc0) !== 0) return false;
  const size = u16be(u8, offset + 2);
  if (size % 4 !== 0 || HEADER + size > length) return false;
  return u32be(u8, offset + 4) === COOKIE;
}

const PARSER: ServiceParser = {
  data: (_fromOrig, u8, offset, length) =>
    isStun(u8, offset, length) ? ServiceNews.confirmed | ServiceNews.done : ServiceNews.rejected,
};

/** STUN and TURN over UDP: any message with the magic cookie. */
export const STUN: Service = {
  name: 'stun',
  transport: 'udp',
  first: between(0, 0x3f),
  looksLike: isStun,
  parser: () => PARSER,
};
