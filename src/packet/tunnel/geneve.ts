import { EtherType, LinkType } from '../link/types.ts';
import { Inside, type TunnelPayload } from './payload.ts';

const HEADER = 8;
const ETHERNET_BRIDGED = 0x6558;

/** GENEVE (RFC 8926): options are passed over; Ethernet or IP inside. */
export function geneve(u8: Uint8Array, at: number, end: number, out: TunnelPayload): Inside {
  if (at + HEADER > end) return Inside.violation;
  if (u8[at] >>> 6 !== 0) return Inside.nothing;
  const header = HEADER + (u8[at] & 0x3f) * 4;
  if (at + header > end) return Inside.violation;
  out.vni = (u8[at + 4] << 16) | (u8[at + 5] << 8) | u8[at + 6];
  out.confirmed = true;
  switch ((u8[at + 2] << 8) | u8[at + 3]) {
    case ETHERNET_BRIDGED:
      return out.set(at + header, end, LinkType.ethernet);
    case EtherType.ipv4:
    case EtherType.ipv6:
      return out.set(at + header, end, LinkType.raw);
    default:
      return Inside.nothing;
  }
}
