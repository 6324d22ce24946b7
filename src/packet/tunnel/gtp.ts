import { LinkType } from '../link/types.ts';
import { Inside, ipTotal, type TunnelPayload } from './payload.ts';

const HEADER = 8;
const OPTIONAL = 4;
const T_PDU = 255;
const EXTENSION = 0x04;
const ANY_OPTIONAL = 0x07;

/**
 * GTP-U version 1 (3GPP TS 29.281): only T-PDUs hold a packet, behind a sequence number and extension headers where
 * flags say so. The packet has to fill the rest exactly, as in Zeek.
 */
export function gtp(u8: Uint8Array, at: number, end: number, out: TunnelPayload): Inside {
  // Version 1, protocol type GTP (and not GTP').
  if (at + HEADER > end || u8[at] >>> 5 !== 1) return Inside.violation;
  if ((u8[at] & 0x10) === 0 || u8[at + 1] !== T_PDU) return Inside.nothing;
  let here = at + HEADER;
  if ((u8[at] & ANY_OPTIONAL) !== 0) {
    if (here + OPTIONAL > end) return Inside.violation;
    here += OPTIONAL;
    if ((u8[at] & EXTENSION) !== 0) {
      for (let next = u8[here - 1]; next !== 0; next = u8[here - 1]) {
        if (here >= end || u8[here] === 0 || here + u8[here] * 4 > end) return Inside.violation;
        here += u8[here] * 4;
      }
    }
  }
  const version = here < end ? u8[here] >>> 4 : 0;
  if ((version !== 4 && version !== 6) || ipTotal(u8, here, end, version) !== end - here)
    return Inside.violation;
  out.confirmed = true;
  return out.set(here, end, LinkType.raw);
}
