import { fddi, snap } from './llc.ts';
import { nflog } from './nflog.ts';
import { ppp, pppoe, pppSerial } from './ppp.ts';
import { EtherType, type LinkCursor, LinkType, Step } from './types.ts';
import { prism, radiotap, wlan } from './wlan.ts';

const NULL_HEADER = 4;
const SLL_HEADER = 16;
const SLL2_HEADER = 20;
/** Pseudo protocol of a cooked capture (if_ether.h): what follows is LLC. */
const ETH_P_802_2 = 4;

/** Address family in the order of the host that captured (NULL) or of the network (LOOP): either is read as both. */
function loopback(cursor: LinkCursor): Step {
  const { u8, at, end } = cursor;
  if (at + NULL_HEADER > end) return Step.short;
  const little = u8[at] | (u8[at + 1] << 8) | (u8[at + 2] << 16) | (u8[at + 3] << 24);
  const big = (u8[at] << 24) | (u8[at + 1] << 16) | (u8[at + 2] << 8) | u8[at + 3];
  cursor.at = at + NULL_HEADER;
  switch (u8[at] === 0 && u8[at + 1] === 0 ? big : little) {
    case 2:
      cursor.type = EtherType.ipv4;
      return Step.next;
    // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS.
    case 10:
    case 24:
    case 28:
    case 30:
      cursor.type = EtherType.ipv6;
      return Step.next;
    default:
      return Step.other;
  }
}

function cooked(cursor: LinkCursor, header: number, protocolAt: number): Step {
  const { u8, at, end } = cursor;
  if (at + header > end) return Step.short;
  cursor.type = (u8[at + protocolAt] << 8) | u8[at + protocolAt + 1];
  cursor.at = at + header;
  return cursor.type === ETH_P_802_2 ? snap(cursor) : Step.next;
}

function ip(cursor: LinkCursor): Step {
  // The version field decides.
  cursor.type = EtherType.ipv4;
  return Step.next;
}

/** Takes the header that a link type puts first, Ethernet aside. The cursor is at the begin of the frame. */
export function enterLink(linkType: number, cursor: LinkCursor): Step {
  switch (linkType) {
    case LinkType.raw:
    case LinkType.rawOpenBsd:
    case LinkType.rawFile:
    case LinkType.ipv4:
    case LinkType.ipv6:
      return ip(cursor);
    case LinkType.null:
    case LinkType.loop:
      return loopback(cursor);
    case LinkType.sll:
      return cooked(cursor, SLL_HEADER, 14);
    case LinkType.sll2:
      return cooked(cursor, SLL2_HEADER, 0);
    case LinkType.ppp:
      return ppp(cursor);
    case LinkType.pppSerial:
      return pppSerial(cursor);
    case LinkType.pppEther:
      return pppoe(cursor);
    case LinkType.nflog:
      return nflog(cursor);
    case LinkType.fddi:
      return fddi(cursor);
    case LinkType.wlan:
      return wlan(cursor);
    case LinkType.radiotap:
      return radiotap(cursor);
    case LinkType.prism:
    case LinkType.avs:
      return prism(cursor);
    case LinkType.snap:
      return snap(cursor);
    default:
      return Step.unknown;
  }
}
