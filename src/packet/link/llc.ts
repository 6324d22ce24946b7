import { type LinkCursor, Step } from './types.ts';

const SNAP_SAP = 0xaa;
const UNNUMBERED = 0x03;

/** IEEE 802.2 LLC: only SNAP with an EtherType (RFC 1042) holds IP. */
export function snap(cursor: LinkCursor): Step {
  const { u8, at, end } = cursor;
  if (at + 3 > end) return Step.short;
  if (u8[at] !== SNAP_SAP || u8[at + 1] !== SNAP_SAP) return Step.other;
  const here = at + ((u8[at + 2] & UNNUMBERED) === UNNUMBERED ? 3 : 4);
  if (here + 5 > end) return Step.short;
  if (u8[here] !== 0 || u8[here + 1] !== 0 || u8[here + 2] !== 0) return Step.other;
  cursor.type = (u8[here + 3] << 8) | u8[here + 4];
  cursor.at = here + 5;
  return Step.next;
}

const FDDI_HEADER = 13;

/** FDDI: frame control and addresses, then LLC. */
export function fddi(cursor: LinkCursor): Step {
  cursor.at += FDDI_HEADER;
  return snap(cursor);
}
