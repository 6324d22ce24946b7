import { snap } from './llc.ts';
import { pppoe } from './ppp.ts';
import { EtherType, type LinkCursor, MAX_LENGTH_FIELD, Step } from './types.ts';

const ETHERNET_HEADER = 14;
const MPLS_LABEL = 4;
const VNTAG = 6;
/** PBB I-TAG (IEEE 802.1ah): four bytes, then the customer's Ethernet header. */
const PBB_TAG = 4;
/** Cisco FabricPath puts 16 bytes in front of the whole frame, the first 14 of which look like Ethernet. */
const FABRIC_PATH_REST = 2;

function ethernet(cursor: LinkCursor, from: number): Step {
  const { u8, end } = cursor;
  if (from + ETHERNET_HEADER > end) return Step.short;
  cursor.type = (u8[from + 12] << 8) | u8[from + 13];
  cursor.at = from + ETHERNET_HEADER;
  return Step.next;
}

/** RFC 3032 does not say what a label stack carries: it is taken for IP, as in Zeek. */
function mpls(cursor: LinkCursor): Step {
  const { u8, end } = cursor;
  let at = cursor.at;
  for (let bottom = false; !bottom; at += MPLS_LABEL) {
    if (at + MPLS_LABEL > end) return Step.short;
    bottom = (u8[at + 2] & 1) !== 0;
  }
  cursor.at = at;
  cursor.type = EtherType.ipv4;
  return Step.next;
}

/** Takes one header that is neither a VLAN tag nor IP. */
export function followType(cursor: LinkCursor): Step {
  const { u8, at, end } = cursor;
  switch (cursor.type) {
    case EtherType.mpls:
    case EtherType.mplsMulticast:
      return mpls(cursor);
    case EtherType.pppoe:
      return pppoe(cursor);
    case EtherType.pbb:
      return ethernet(cursor, at + PBB_TAG);
    case EtherType.fabricPath:
      return ethernet(cursor, at + FABRIC_PATH_REST);
    case EtherType.vnTag:
      if (at + VNTAG > end) return Step.short;
      cursor.type = (u8[at + 4] << 8) | u8[at + 5];
      cursor.at = at + VNTAG;
      return Step.next;
    default:
      return cursor.type <= MAX_LENGTH_FIELD ? snap(cursor) : Step.other;
  }
}
