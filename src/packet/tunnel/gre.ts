import { EtherType, LinkType } from '../link/types.ts';
import { Inside, ipTotal, type TunnelPayload } from './payload.ts';

const Bit = {
  checksum: 0x8000,
  routing: 0x4000,
  key: 0x2000,
  sequence: 0x1000,
  ack: 0x0080,
  reserved: 0x0078,
};
const ETHERNET_HEADER = 14;
const Type = { bridged: 0x6558, erspan: 0x88be, erspan3: 0x22eb, ppp: 0x880b };
const ERSPAN2 = 8;
const ERSPAN3 = 12;
const ERSPAN3_OPTIONAL = 8;
const PPTP_PPP = 4;

/** Aruba's GRE carries 802.11 frames under these types. */
function isAruba(type: number): boolean {
  if (type === 0x9000) return true;
  if ((type & 0x0f) !== 0) return false;
  return (type & 0x8200) === 0x8200 || ((type & 0x8300) === 0x8300 && type <= 0x8370);
}

/**
 * GRE version 0 (RFC 2784, 2890) around Ethernet, IP, ERSPAN I to III or 802.11, and version 1 (PPTP, RFC 2637) around
 * PPP with IP. The deprecated routing field is not followed.
 */
export function gre(u8: Uint8Array, at: number, end: number, out: TunnelPayload): Inside {
  if (at + 4 > end) return Inside.nothing;
  const flags = (u8[at] << 8) | u8[at + 1];
  const type = (u8[at + 2] << 8) | u8[at + 3];
  const version = flags & 7;
  if (version > 1 || (flags & (Bit.routing | Bit.reserved)) !== 0) return Inside.nothing;
  let here = at + 4;
  if ((flags & Bit.checksum) !== 0) here += 4;
  if ((flags & Bit.key) !== 0) here += 4;
  if ((flags & Bit.sequence) !== 0) here += 4;
  if ((flags & Bit.ack) !== 0) here += 4;
  if (here > end) return Inside.nothing;
  if (version === 1) return type === Type.ppp ? pptp(u8, here, end, out) : Inside.nothing;
  switch (type) {
    case Type.bridged:
      return frame(here, end, out);
    case Type.erspan:
      return frame(here + ((flags & Bit.sequence) === 0 ? 0 : ERSPAN2), end, out);
    case Type.erspan3: {
      if (here + ERSPAN3 > end) return Inside.nothing;
      const optional = (u8[here + ERSPAN3 - 1] & 1) === 0 ? 0 : ERSPAN3_OPTIONAL;
      return frame(here + ERSPAN3 + optional, end, out);
    }
    case EtherType.ipv4:
    case EtherType.ipv6:
      return out.set(here, end, LinkType.raw);
    default:
      return isAruba(type) ? out.set(here, end, LinkType.wlan) : Inside.nothing;
  }
}

function frame(at: number, end: number, out: TunnelPayload): Inside {
  return at + ETHERNET_HEADER < end ? out.set(at, end, LinkType.ethernet) : Inside.nothing;
}

function pptp(u8: Uint8Array, at: number, end: number, out: TunnelPayload): Inside {
  if (at + PPTP_PPP > end) return Inside.nothing;
  const protocol = (u8[at + 2] << 8) | u8[at + 3];
  if (protocol !== 0x0021 && protocol !== 0x0057) return Inside.nothing;
  return wholeIp(u8, at + PPTP_PPP, end, protocol === 0x0021 ? 4 : 6, out);
}

/** IP that fills what is there exactly: anything else is refused, as in Zeek. */
export function wholeIp(u8: Uint8Array, at: number, end: number, version: 4 | 6, out: TunnelPayload): Inside {
  if (ipTotal(u8, at, end, version) !== end - at) return Inside.nothing;
  return out.set(at, end, LinkType.raw);
}
