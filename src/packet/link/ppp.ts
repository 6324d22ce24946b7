import { EtherType, type LinkCursor, Step } from './types.ts';

/** PPP protocol numbers (RFC 1661, 1332, 5072, 3032). */
function take(cursor: LinkCursor, header: number): Step {
  const { u8, at, end } = cursor;
  if (at + header > end) return Step.short;
  const protocol = (u8[at + header - 2] << 8) | u8[at + header - 1];
  cursor.at = at + header;
  switch (protocol) {
    case 0x0021:
      cursor.type = EtherType.ipv4;
      return Step.next;
    case 0x0057:
      cursor.type = EtherType.ipv6;
      return Step.next;
    case 0x0281:
      cursor.type = EtherType.mpls;
      return Step.next;
    default:
      return Step.other;
  }
}

/** DLT_PPP: with the address and control bytes of HDLC framing (RFC 1662) or without. */
export function ppp(cursor: LinkCursor): Step {
  const { u8, at, end } = cursor;
  return take(cursor, at + 1 < end && u8[at] === 0xff && u8[at + 1] === 0x03 ? 4 : 2);
}

/** DLT_PPP_SERIAL: always with two bytes in front. */
export function pppSerial(cursor: LinkCursor): Step {
  return take(cursor, 4);
}

/** PPPoE session stage (RFC 2516): six bytes, then PPP without framing. */
export function pppoe(cursor: LinkCursor): Step {
  return take(cursor, 8);
}
