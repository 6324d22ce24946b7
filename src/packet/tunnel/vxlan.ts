import { LinkType } from '../link/types.ts';
import { Inside, type TunnelPayload } from './payload.ts';

const HEADER = 8;
const FLAG_VNI = 0x08;

/** VXLAN (RFC 7348): an Ethernet frame behind eight bytes. */
export function vxlan(u8: Uint8Array, at: number, end: number, out: TunnelPayload): Inside {
  if (at + HEADER > end || (u8[at] & FLAG_VNI) === 0) return Inside.violation;
  out.vni = (u8[at + 4] << 16) | (u8[at + 5] << 8) | u8[at + 6];
  out.confirmed = true;
  return out.set(at + HEADER, end, LinkType.ethernet);
}
