import { EtherType, type LinkCursor, Step } from './types.ts';

const HEADER = 4;
const TLV_HEADER = 4;
/** NFULA_PAYLOAD (linux/netfilter/nfnetlink_log.h). */
const PAYLOAD = 9;

/** Linux netfilter log: the address family, then attributes in the order of the host, one of which is the packet. */
export function nflog(cursor: LinkCursor): Step {
  const { u8, at, end } = cursor;
  if (at + HEADER > end) return Step.short;
  if (u8[at + 1] !== 0) return Step.other;
  for (let here = at + HEADER; here + TLV_HEADER <= end; ) {
    const length = u8[here] | (u8[here + 1] << 8);
    if (length < TLV_HEADER) return Step.other;
    if ((u8[here + 2] | (u8[here + 3] << 8)) === PAYLOAD) {
      cursor.at = here + TLV_HEADER;
      // The version field decides between IPv4 and IPv6.
      cursor.type = EtherType.ipv4;
      return Step.next;
    }
    here += (length + 3) & ~3;
  }
  return Step.short;
}
