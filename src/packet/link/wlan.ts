import { snap } from './llc.ts';
import { type LinkCursor, Step } from './types.ts';

const DATA_HEADER = 24;
const ADDRESS = 6;
const TYPE_MASK = 0x0c;
const TYPE_DATA = 0x08;
const NO_DATA = 0x40;
const QOS = 0x80;
// Second byte of the frame control field.
const TO_DS = 0x01;
const FROM_DS = 0x02;
const PROTECTED = 0x40;
const ORDER = 0x80;
/** In the QoS control field: the body is an A-MSDU. */
const AMSDU = 0x80;

/** IEEE 802.11 data frames that are not encrypted. */
export function wlan(cursor: LinkCursor): Step {
  const { u8, at, end } = cursor;
  if (at + DATA_HEADER > end) return Step.short;
  const control = u8[at];
  const flags = u8[at + 1];
  if ((control & TYPE_MASK) !== TYPE_DATA || (control & NO_DATA) !== 0) return Step.other;
  if ((flags & PROTECTED) !== 0) return Step.other;
  let here = at + DATA_HEADER;
  if ((flags & (TO_DS | FROM_DS)) === (TO_DS | FROM_DS)) here += ADDRESS;
  let aggregate = false;
  if ((control & QOS) !== 0) {
    if (here + 2 > end) return Step.short;
    aggregate = (u8[here] & AMSDU) !== 0;
    here += 2;
    if ((flags & ORDER) !== 0) here += 4;
  }
  cursor.at = here;
  return aggregate ? Step.aggregate : snap(cursor);
}

/** Radiotap: its length is a little-endian 16-bit number at 2. */
export function radiotap(cursor: LinkCursor): Step {
  const { u8, at, end } = cursor;
  if (at + 4 > end) return Step.short;
  cursor.at = at + Math.max(4, u8[at + 2] | (u8[at + 3] << 8));
  return wlan(cursor);
}

const PRISM_HEADER = 144;
const AVS_HEADER = 64;
const AVS_MAGIC = 0x80211;

/** Prism header of 144 bytes, or the AVS header that some drivers put in its place: its length is at 4. */
export function prism(cursor: LinkCursor): Step {
  const { u8, at, end } = cursor;
  if (at + 8 > end) return Step.short;
  const magic = (u8[at] << 12) | (u8[at + 1] << 4) | (u8[at + 2] >>> 4);
  const length = (u8[at + 4] << 24) | (u8[at + 5] << 16) | (u8[at + 6] << 8) | u8[at + 7];
  if (magic !== AVS_MAGIC) cursor.at = at + PRISM_HEADER;
  else if (length < AVS_HEADER || length > end - at) return Step.short;
  else cursor.at = at + length;
  return wlan(cursor);
}
