import { fold, littleSum } from './checksum.ts';
import { ICMP_ONE_WAY, icmpCounterpart } from './icmp.ts';
import { enterLink } from './link/enter.ts';
import { followType } from './link/follow.ts';
import { EtherType, LinkCursor, LinkType, Step } from './link/types.ts';
import { Checksum, type Packet } from './packet.ts';
import { viewOf } from './view.ts';

export { LinkType } from './link/types.ts';

/** Why a frame has, or has not, become a packet of a flow. */
export const Decoded = {
  ok: 0,
  /** A link type that is not decoded. */
  linkType: 1,
  /** Cut off, or too short, below the transport header. */
  short: 2,
  /** No IP inside: ARP, LLC and the like. */
  notIp: 3,
  /** More than four VLAN tags. */
  tags: 4,
  /** IP lengths or versions that contradict each other or the frame. */
  malformed: 5,
  /** Bad IPv4 header checksum, or a total length of 0 with checksums on. */
  ipChecksum: 6,
  /** A fragment: see the decoder's `fragment`. */
  fragment: 7,
  /** IP that gives no connection of its own: IGMP, IPv6 ESP, mobility, no next header. */
  noFlow: 8,
  /** An IP protocol that carries other packets (4, 41, 47). */
  carrier: 9,
  /** Several frames in one (802.11 A-MSDU): `transport` and `transportBytes` tell where they lie. */
  aggregate: 10,
} as const;
export type Decoded = (typeof Decoded)[keyof typeof Decoded];
export const DECODED_REASONS = 11;

export const IpProto = {
  hopByHop: 0,
  icmp: 1,
  igmp: 2,
  ipip: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  routing: 43,
  fragment: 44,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  none: 59,
  destination: 60,
  mobility: 135,
} as const;

const ETHERNET_HEADER = 14;
/** Version 4, header without options. */
const PLAIN_IPV4 = 0x45;
const MAX_TAGS = 4;
/** Headers between the frame's own and IP, tags included. */
const MAX_STEPS = 16;
const VXLAN_PORT = 4789;

/** Where the parts of a fragment lie; of its data tell the decoder's `transport`, `transportBytes` and `captured`. */
export class Fragment {
  /** Offset of the IP header, and bytes of all headers that every fragment repeats. */
  header = 0;
  headerBytes = 0;
  /** IPv6: where among them the protocol field is that names the fragment header, and what that names. */
  protocolAt = 0;
  protocol = 0;
  /** Which datagram, where in it, and whether it goes on. */
  id = 0;
  offset = 0;
  more = false;
}

/**
 * Finds the IP packet and the transport header of a frame. One object is used for all packets: `decode` sets the
 * fields, which are valid until the next call; offsets are into the packet's `u8`.
 *
 * What is dropped, and why, follows Zeek's IP analyzer (RFC 791, 8200; IEEE 802.1Q).
 */
export class Decoder {
  /** IPv4 header checksums are validated, and a total length of 0 is refused. */
  readonly checksums: boolean;

  /** 4 or 6. */
  family: 4 | 6 = 4;
  /** Offsets of the addresses. */
  source = 0;
  destination = 0;
  protocol = 0;
  /** IP total length field (IPv6: payload length + 40); 0 when a sender with segmentation offload left it out. */
  ipBytes = 0;
  /** Offset and length of the transport header with its data, as the IP header tells. */
  transport = 0;
  transportBytes = 0;
  /** How much of it was captured: at most transportBytes. */
  captured = 0;
  /** Ports in host order; ICMP: as in the gate's key, see `icmpCounterpart`. Other protocols: 0. */
  sourcePort = 0;
  destinationPort = 0;
  /** VLAN ids of the two outermost tags with an id other than 0; 0: none. */
  vlan = 0;
  innerVlan = 0;
  /** Of the last packet for which `decode` said fragment. */
  readonly fragment = new Fragment();
  readonly #link = new LinkCursor();

  constructor(checksums: boolean) {
    this.checksums = checksums;
  }

  /** Decodes the frame under the cursor. Never throws, whatever the bytes. */
  decode(packet: Packet): Decoded {
    const begin = packet.offset;
    const end = Math.min(begin + packet.caplen, packet.u8.length);
    this.vlan = 0;
    this.innerVlan = 0;
    if (this.#isPlain(packet, begin, end)) return Decoded.ok;
    if (packet.linkType === LinkType.ethernet) return this.#ethernet(packet, begin, end);
    const link = this.#link;
    link.u8 = packet.u8;
    link.at = begin;
    link.end = end;
    if (packet.vlanTci >= 0) this.#tag(packet.vlanTci);
    const step = enterLink(packet.linkType, link);
    return step === Step.next ? this.#walk(packet, 0) : this.#stopped(step);
  }

  /**
   * Most frames: Ethernet, IPv4 without options or fragments, TCP or UDP. Sets the fields when it is such a one that is
   * right in every respect; everything else goes the long way.
   */
  #isPlain(packet: Packet, begin: number, end: number): boolean {
    const at = begin + ETHERNET_HEADER;
    const transport = at + 20;
    if (packet.linkType !== LinkType.ethernet || packet.vlanTci >= 0 || transport > end) return false;
    const view = viewOf(packet.u8);
    if (view.getUint16(at - 2) !== EtherType.ipv4 || view.getUint8(at) !== PLAIN_IPV4) return false;
    const total = view.getUint16(at + 2);
    const protocol = view.getUint8(at + 9);
    const bytes = total - 20;
    const captured = Math.min(bytes, end - transport);
    if (captured < 20 && (protocol !== IpProto.udp || captured < 8)) return false;
    if (protocol !== IpProto.tcp && protocol !== IpProto.udp) return false;
    if ((view.getUint16(at + 6) & 0x3fff) !== 0 || ETHERNET_HEADER + total > packet.wirelen) return false;
    if (this.checksums) {
      const a = view.getInt32(at, true);
      const b = view.getInt32(at + 4, true);
      const c = view.getInt32(at + 8, true);
      const d = view.getInt32(at + 12, true);
      const e = view.getInt32(at + 16, true);
      const low = (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff) + (e & 0xffff);
      if (fold(low + (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16) + (e >>> 16)) !== 0xffff) return false;
    }
    this.family = 4;
    this.source = at + 12;
    this.destination = at + 16;
    this.protocol = protocol;
    this.ipBytes = total;
    this.transport = transport;
    this.transportBytes = bytes;
    this.captured = captured;
    this.sourcePort = view.getUint16(transport);
    this.destinationPort = view.getUint16(transport + 2);
    return true;
  }

  /** Decodes a datagram put together from fragments: the VLANs are still those of the last fragment. */
  decodeWhole(packet: Packet): Decoded {
    return this.#ip(packet, packet.offset, packet.offset + packet.caplen);
  }

  #ethernet(packet: Packet, begin: number, end: number): Decoded {
    if (begin + ETHERNET_HEADER > end) return Decoded.short;
    const u8 = packet.u8;
    if (packet.vlanTci >= 0) this.#tag(packet.vlanTci);
    let type = (u8[begin + 12] << 8) | u8[begin + 13];
    let at = begin + ETHERNET_HEADER;
    let tags = 0;
    for (; isTag(type); tags++) {
      if (tags === MAX_TAGS) return Decoded.tags;
      if (at + 4 > end) return Decoded.short;
      this.#tag((u8[at] << 8) | u8[at + 1]);
      type = (u8[at + 2] << 8) | u8[at + 3];
      at += 4;
    }
    if (type === EtherType.ipv4 || type === EtherType.ipv6) return this.#ip(packet, at, end);
    const link = this.#link;
    link.u8 = u8;
    link.at = at;
    link.end = end;
    link.type = type;
    return this.#walk(packet, tags);
  }

  /** Goes on to IP, over headers that are not on the ordinary way. */
  #walk(packet: Packet, tagsBefore: number): Decoded {
    const link = this.#link;
    let tags = tagsBefore;
    for (let steps = 0; steps < MAX_STEPS; steps++) {
      const { u8, at, end, type } = link;
      if (type === EtherType.ipv4 || type === EtherType.ipv6) return this.#ip(packet, at, end);
      if (isTag(type)) {
        if (tags++ === MAX_TAGS) return Decoded.tags;
        if (at + 4 > end) return Decoded.short;
        this.#tag((u8[at] << 8) | u8[at + 1]);
        link.type = (u8[at + 2] << 8) | u8[at + 3];
        link.at = at + 4;
      } else {
        const step = followType(link);
        if (step !== Step.next) return this.#stopped(step);
      }
    }
    return Decoded.notIp;
  }

  #stopped(step: Step): Decoded {
    if (step === Step.short) return Decoded.short;
    if (step === Step.unknown) return Decoded.linkType;
    if (step !== Step.aggregate) return Decoded.notIp;
    this.transport = this.#link.at;
    this.transportBytes = Math.max(0, this.#link.end - this.#link.at);
    return Decoded.aggregate;
  }

  #tag(tci: number): void {
    const id = tci & 0xfff;
    if (this.vlan === 0) this.vlan = id;
    else if (this.innerVlan === 0) this.innerVlan = id;
  }

  #ip(packet: Packet, at: number, end: number): Decoded {
    if (at + 20 > end) return Decoded.short;
    // As in Zeek, the version field decides, whatever the link layer said.
    const version = packet.u8[at] >>> 4;
    if (version === 4) return this.#ipv4(packet, at, end);
    if (version === 6) return this.#ipv6(packet, at, end);
    return Decoded.malformed;
  }

  #ipv4(packet: Packet, at: number, end: number): Decoded {
    const u8 = packet.u8;
    const captured = end - at;
    const header = (u8[at] & 15) * 4;
    const field = (u8[at + 2] << 8) | u8[at + 3];
    if (field === 0 && this.checksums) return Decoded.ipChecksum;
    const total = field === 0 ? captured : field;
    if (at - packet.offset + total > packet.wirelen) return Decoded.malformed;
    if (header < 20 || header > total) return Decoded.malformed;
    if (header > captured) return Decoded.short;
    if (this.checksums && fold(littleSum(viewOf(u8), at, header)) !== 0xffff) return Decoded.ipChecksum;
    this.family = 4;
    this.source = at + 12;
    this.destination = at + 16;
    this.ipBytes = field;
    const place = ((u8[at + 6] << 8) | u8[at + 7]) & 0x3fff;
    // A first fragment that was cut short by the capture cannot be reassembled: Zeek takes it as it is.
    if (place !== 0 && !(captured < total && (place & 0x1fff) === 0)) {
      const fragment = this.fragment;
      fragment.header = at;
      fragment.headerBytes = header;
      fragment.id = (u8[at + 4] << 8) | u8[at + 5];
      fragment.offset = (place & 0x1fff) * 8;
      fragment.more = (place & 0x2000) !== 0;
      return this.#fragment(at + header, total - header, end);
    }
    return this.#transport(u8, u8[at + 9], at + header, total - header, end);
  }

  #ipv6(packet: Packet, at: number, end: number): Decoded {
    const u8 = packet.u8;
    if (at + 40 > end) return Decoded.short;
    const total = ((u8[at + 4] << 8) | u8[at + 5]) + 40;
    if (at - packet.offset + total > packet.wirelen) return Decoded.malformed;
    this.family = 6;
    this.source = at + 8;
    this.destination = at + 24;
    this.ipBytes = total;
    let next = u8[at + 6];
    let here = at + 40;
    let nextAt = at + 6;
    let routed = false;
    for (;;) {
      let size = 0;
      switch (next) {
        case IpProto.hopByHop:
        case IpProto.routing:
        case IpProto.destination:
        case IpProto.ah:
          if (here + 2 > end) return Decoded.short;
          size = next === IpProto.ah ? (u8[here + 1] + 2) * 4 : (u8[here + 1] + 1) * 8;
          break;
        case IpProto.fragment: {
          if (here + 8 > end) return Decoded.short;
          if (here + 8 - at > total) return Decoded.malformed;
          const offset = (u8[here + 2] << 8) | (u8[here + 3] & 0xf8);
          const data = here + 8;
          next = u8[here];
          if (end - at < total && offset === 0)
            return this.#transport(u8, next, data, total - (data - at), end);
          const fragment = this.fragment;
          fragment.header = at;
          fragment.headerBytes = here - at;
          fragment.protocolAt = nextAt - at;
          fragment.protocol = next;
          fragment.id = (u8[here + 4] << 24) | (u8[here + 5] << 16) | (u8[here + 6] << 8) | u8[here + 7];
          fragment.offset = offset;
          fragment.more = (u8[here + 3] & 1) !== 0;
          return this.#fragment(data, total - (data - at), end);
        }
        case IpProto.esp:
        case IpProto.mobility:
        case IpProto.none:
          return Decoded.noFlow;
        default:
          return this.#transport(u8, next, here, total - (here - at), end);
      }
      if (here + size > end) return Decoded.short;
      if (here + size - at > total) return Decoded.malformed;
      // Routing header 0 (RFC 2460 section 4.4) with segments left: the last address is where the packet goes.
      if (next === IpProto.routing && !routed && u8[here + 2] === 0 && u8[here + 3] !== 0) {
        const words = u8[here + 1];
        if (words >= 2 && words % 2 === 0) {
          routed = true;
          this.destination = here + size - 16;
        }
      }
      next = u8[here];
      nextAt = here;
      here += size;
    }
  }

  #fragment(at: number, bytes: number, end: number): Decoded {
    this.transport = at;
    this.transportBytes = bytes;
    this.captured = Math.min(bytes, end - at);
    return Decoded.fragment;
  }

  #transport(u8: Uint8Array, protocol: number, at: number, bytes: number, end: number): Decoded {
    if (bytes < 0) return Decoded.malformed;
    const captured = Math.min(bytes, end - at);
    this.protocol = protocol;
    this.transport = at;
    this.transportBytes = bytes;
    this.captured = captured;
    switch (protocol) {
      case IpProto.tcp:
        if (captured < 20) return Decoded.short;
        break;
      case IpProto.udp:
        if (captured < 8) return Decoded.short;
        break;
      case IpProto.icmp:
      case IpProto.icmpv6:
        if (captured < 8) return Decoded.short;
        this.#icmpPorts(u8[at], u8[at + 1]);
        return Decoded.ok;
      case IpProto.ipip:
      case IpProto.ipv6:
      case IpProto.gre:
        return Decoded.carrier;
      case IpProto.igmp:
        return Decoded.noFlow;
      default:
        this.sourcePort = 0;
        this.destinationPort = 0;
        return Decoded.ok;
    }
    this.sourcePort = (u8[at] << 8) | u8[at + 1];
    this.destinationPort = (u8[at + 2] << 8) | u8[at + 3];
    return Decoded.ok;
  }

  #icmpPorts(type: number, code: number): void {
    const other = icmpCounterpart(this.protocol, type);
    this.sourcePort = other < 0 ? type | ICMP_ONE_WAY : type;
    this.destinationPort = other < 0 ? code : other;
  }

  /**
   * Whether the transport checksum of the packet just decoded is right, or cannot be told: it was not captured whole,
   * or the packet says that it is not to be looked at. Protocols without one that is validated are always right.
   */
  checksumHolds(packet: Packet): boolean {
    if (packet.checksum !== Checksum.unknown || this.captured < this.transportBytes) return true;
    const u8 = packet.u8;
    const at = this.transport;
    const bytes = this.transportBytes;
    switch (this.protocol) {
      case IpProto.tcp:
        break;
      case IpProto.udp: {
        if (packet.wirelen > packet.caplen) return true;
        const zero = u8[at + 6] === 0 && u8[at + 7] === 0;
        if (zero && (this.family === 4 || this.#looksLikeVxlan(u8))) return true;
        break;
      }
      case IpProto.icmp:
        return fold(littleSum(viewOf(u8), at, bytes)) === 0xffff;
      case IpProto.icmpv6:
        break;
      default:
        return true;
    }
    const view = viewOf(u8);
    // The pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), all of it in little-endian words.
    const length = (bytes >>> 16) + (bytes & 0xffff);
    let sum = (this.protocol << 8) + ((length & 0xff) << 8) + (length >>> 8);
    if (this.family === 4) {
      const source = view.getInt32(this.source, true);
      const destination = view.getInt32(this.destination, true);
      sum += (source & 0xffff) + (source >>> 16) + (destination & 0xffff) + (destination >>> 16);
    } else {
      sum += littleSum(view, this.source, 16) + littleSum(view, this.destination, 16);
    }
    return fold(sum + littleSum(view, at, bytes)) === 0xffff;
  }

  /** RFC 7348 wants the outer checksum to be 0, over IPv6 too. */
  #looksLikeVxlan(u8: Uint8Array): boolean {
    return (
      this.destinationPort === VXLAN_PORT &&
      this.transportBytes > 8 + 8 + ETHERNET_HEADER &&
      (u8[this.transport + 8] & 8) !== 0
    );
  }
}

function isTag(type: number): boolean {
  return type === EtherType.vlan || type === EtherType.serviceVlan || type === EtherType.oldServiceVlan;
}
