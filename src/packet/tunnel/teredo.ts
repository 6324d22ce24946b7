import { IpProto } from '../decode.ts';
import { LinkType } from '../link/types.ts';
import { Inside, ipTotal, type TunnelPayload } from './payload.ts';

const IPV6_HEADER = 40;
const ORIGIN = 8;
/** Identifier and authentication value come on top. */
const AUTHENTICATION = 13;

/** Offset of the IPv6 header behind the authentication and origin headers, which come in this order; -1: none. */
function skipHeaders(u8: Uint8Array, from: number, end: number): number {
  let at = from;
  if (at + 4 <= end && u8[at] === 0 && u8[at + 1] === 1) at += AUTHENTICATION + u8[at + 2] + u8[at + 3];
  if (at + ORIGIN <= end && u8[at] === 0 && u8[at + 1] === 0) at += ORIGIN;
  return at + IPV6_HEADER <= end && u8[at] >>> 4 === 6 ? at : -1;
}

/** Teredo (RFC 4380): IPv6 that fills the datagram, save for a bubble. */
export function teredo(u8: Uint8Array, from: number, end: number, out: TunnelPayload): Inside {
  const at = skipHeaders(u8, from, end);
  if (at < 0) return Inside.violation;
  const total = ipTotal(u8, at, end, 6);
  const bubble = total === IPV6_HEADER && u8[at + 6] === IpProto.none;
  if (total !== end - at && !(bubble && total < end - at)) return Inside.violation;
  out.confirmed = true;
  return out.set(at, end, LinkType.raw);
}

function isTeredoAddress(u8: Uint8Array, at: number): boolean {
  return u8[at] === 0x20 && u8[at + 1] === 0x01 && u8[at + 2] === 0 && u8[at + 3] === 0;
}

/** A datagram on any port: IPv6 from or to 2001::/32, or IPv6 behind the headers of Teredo. */
export function looksLikeTeredo(u8: Uint8Array, at: number, end: number): boolean {
  if (at + IPV6_HEADER > end) return false;
  if (u8[at] >>> 4 === 6) return isTeredoAddress(u8, at + 8) || isTeredoAddress(u8, at + 24);
  return u8[at] === 0 && u8[at + 1] <= 1 && skipHeaders(u8, at, end) >= 0;
}
