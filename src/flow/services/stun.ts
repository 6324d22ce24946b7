import { between } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** RFC 8489, section 5. */
const HEADER = 20;
const COOKIE = 0x2112a442;

function isStun(u8: Uint8Array, offset: number, length: number): boolean {
  if (length < HEADER || (u8[offset] & 0xc0) !== 0) return false;
  const size = (u8[offset + 2] << 8) | u8[offset + 3];
  if (size % 4 !== 0 || HEADER + size > length) return false;
  const cookie = (u8[offset + 4] << 24) | (u8[offset + 5] << 16) | (u8[offset + 6] << 8) | u8[offset + 7];
  return cookie === COOKIE;
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
