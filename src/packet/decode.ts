import { onesSum } from './checksum.ts';
import { ICMP_ONE_WAY, icmpCounterpart } from './icmp.ts';
import { Checksum, type Packet } from './packet.ts';

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
  /** A fragment: its datagram is not whole. */
  fragment: 7,
  /** IP that gives no connection of its own: IGMP, IPv6 ESP, mobility, no next header. */
  noFlow: 8,
  /** An IP protocol that carries other packets (4, 41, 47). */
  carrier: 9,
} as const;
export type Decoded = (typeof Decoded)[keyof typeof Decoded];
export const DECODED_REASONS = 10;

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

export const LinkType = { ethernet: 1 } as const;

const ETHERNET_HEADER = 14;
const MAX_TAGS = 4;
const VXLAN_PORT = 4789;

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
  /** Tunnel ids of the layers around: 0 while no tunnel is decoded. */
  vxlan = 0;
  geneve = 0;

  constructor(checksums: boolean) {
    this.checksums = checksums;
  }

  /** Decodes the frame under the cursor. Never throws, whatever the bytes. */
  decode(packet: Packet): Decoded {
    const begin = packet.offset;
    const end = Math.min(begin + packet.caplen, packet.u8.length);
    this.vlan = 0;
    this.innerVlan = 0;
    if (packet.linkType === LinkType.ethernet) return this.#ethernet(packet, begin, end);
    return Decoded.linkType;
  }

  #ethernet(packet: Packet, begin: number, end: number): Decoded {
    if (begin + ETHERNET_HEADER > end) return Decoded.short;
    const u8 = packet.u8;
    if (packet.vlanTci >= 0) this.#tag(packet.vlanTci);
    let type = (u8[begin + 12] << 8) | u8[begin + 13];
    let at = begin + ETHERNET_HEADER;
    for (let tags = 0; type === 0x8100 || type === 0x88a8 || type === 0x9100; tags++) {
      if (tags === MAX_TAGS) return Decoded.tags;
      if (at + 4 > end) return Decoded.short;
      this.#tag((u8[at] << 8) | u8[at + 1]);
      type = (u8[at + 2] << 8) | u8[at + 3];
      at += 4;
    }
    return this.#network(packet, type, at, end);
  }

  #tag(tci: number): void {
    const id = tci & 0xfff;
    if (this.vlan === 0) this.vlan = id;
    else if (this.innerVlan === 0) this.innerVlan = id;
  }

  #network(packet: Packet, etherType: number, at: number, end: number): Decoded {
    if (etherType === 0x0800 || etherType === 0x86dd) return this.#ip(packet, at, end);
    return Decoded.notIp;
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
    if (this.checksums && !headerHolds(u8, at, header)) return Decoded.ipChecksum;
    const fragment = ((u8[at + 6] << 8) | u8[at + 7]) & 0x3fff;
    // A first fragment that was cut short by the capture cannot be reassembled: Zeek takes it as it is.
    if (fragment !== 0 && !(captured < total && (fragment & 0x1fff) === 0)) return Decoded.fragment;
    this.family = 4;
    this.source = at + 12;
    this.destination = at + 16;
    this.ipBytes = field;
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
        case IpProto.fragment:
          if (here + 8 > end) return Decoded.short;
          if (!(end - at < total && ((u8[here + 2] << 8) | (u8[here + 3] & 0xf8)) === 0))
            return Decoded.fragment;
          next = u8[here];
          here += 8;
          return this.#transport(u8, next, here, total - (here - at), end);
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
      here += size;
    }
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
        return onesSum(u8, at, bytes) === 0xffff;
      case IpProto.icmpv6:
        break;
      default:
        return true;
    }
    const size = this.family === 4 ? 4 : 16;
    let seed = this.protocol + (bytes >>> 16) + (bytes & 0xffff);
    if (this.destination === this.source + size) {
      seed = onesSum(u8, this.source, 2 * size, seed);
    } else {
      seed = onesSum(u8, this.destination, size, onesSum(u8, this.source, size, seed));
    }
    return onesSum(u8, at, bytes, seed) === 0xffff;
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

/** Whether the checksum of an IPv4 header is right: in line, for it is summed for every packet. */
function headerHolds(u8: Uint8Array, at: number, bytes: number): boolean {
  let sum = 0;
  for (let i = at; i < at + bytes; i += 2) sum += (u8[i] << 8) | u8[i + 1];
  sum = (sum & 0xffff) + (sum >>> 16);
  return ((sum + (sum >>> 16)) & 0xffff) === 0xffff;
}
