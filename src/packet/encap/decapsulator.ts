import { IpProto } from '../decode.ts';
import { EtherType, LinkType } from '../link/types.ts';
import { Checksum, type Packet, Tunnelled } from '../packet.ts';
import { optionsAreSound } from './geneve-options.ts';
import type { Encapsulation } from './names.ts';
import { DECAP_REASONS, DecapReason } from './reasons.ts';

const VXLAN_HEADER = 8;
const VXLAN_PORT = 4789;
const FLAG_VNI = 0x08;
const GENEVE_HEADER = 8;
const GENEVE_CONTROL = 0x80;
const GENEVE_CRITICAL = 0x40;
const ETHERNET_BRIDGED = 0x6558;
const PPP = 0x880b;
const UDP_HEADER = 8;
const MAX_EXTENSIONS = 8;

/** Link type of what GENEVE carries (RFC 8926, 3.4: an EtherType); -1: another. */
function linkTypeOf(protocol: number): number {
  switch (protocol) {
    case ETHERNET_BRIDGED:
      return LinkType.ethernet;
    case EtherType.ipv4:
    case EtherType.ipv6:
      return LinkType.raw;
    case PPP:
      return LinkType.ppp;
    default:
      return -1;
  }
}

/**
 * Takes the frames out of a mirror's datagrams: VXLAN (RFC 7348), GENEVE (RFC 8926), VXLAN over IPv4 or IPv6 inside of
 * GENEVE (AWS Traffic Mirroring through a Gateway Load Balancer), or the bare frame. Nothing is copied or allocated, and no
 * bytes make it throw: what holds no frame is counted by reason.
 */
export class Decapsulator {
  readonly encapsulation: Encapsulation;
  /** Datagrams by DecapReason: how many frames, and how many of each kind of trouble. */
  readonly counts = new Float64Array(DECAP_REASONS);
  readonly #skip: number;
  readonly #linkType: number;
  readonly #geneve: boolean;
  readonly #vxlan: boolean;
  readonly #both: boolean;
  /** Of the datagram in work: where the next header is, and where what was captured and what was sent ends. */
  #u8: Uint8Array = new Uint8Array(0);
  #at = 0;
  #end = 0;
  #wireEnd = 0;
  #protocol = 0;
  #geneveVni = -1;
  #vxlanVni = -1;
  #optionsAt = 0;
  #optionsBytes = 0;

  constructor(encapsulation: Encapsulation) {
    const { kind, skip, linkType } = encapsulation;
    this.encapsulation = encapsulation;
    this.#skip = skip;
    this.#linkType = linkType;
    this.#both = kind === 'geneve+vxlan';
    this.#geneve = kind === 'geneve' || this.#both;
    this.#vxlan = kind === 'vxlan' || this.#both;
  }

  /**
   * Gets a cursor that shows the payload of a datagram (wirelen is more than caplen when it was cut) and moves it to the
   * frame inside. False: there is none, and the cursor stays where it was.
   */
  open(packet: Packet): boolean {
    const reason = this.#headers(packet);
    this.counts[reason]++;
    if (reason !== DecapReason.frame) return false;
    packet.offset = this.#at;
    packet.caplen = this.#end - this.#at;
    packet.wirelen = this.#wireEnd - this.#at;
    packet.linkType = this.#protocol;
    packet.vlanTci = -1;
    packet.checksum = Checksum.unknown;
    packet.tunnel = this.#vxlan ? Tunnelled.vxlan : this.#geneve ? Tunnelled.geneve : Tunnelled.none;
    packet.vni = this.#vxlan ? this.#vxlanVni : this.#geneveVni;
    packet.outerVni = this.#both ? this.#geneveVni : -1;
    packet.optionsAt = this.#optionsAt;
    packet.optionsBytes = this.#optionsBytes;
    return true;
  }

  /** Walks over the headers; `#protocol` becomes the link type of the frame. */
  #headers(packet: Packet): DecapReason {
    this.#u8 = packet.u8;
    this.#at = packet.offset + this.#skip;
    this.#end = Math.min(packet.offset + packet.caplen, packet.u8.length);
    this.#wireEnd = packet.offset + Math.max(packet.wirelen, packet.caplen);
    this.#geneveVni = -1;
    this.#vxlanVni = -1;
    this.#optionsAt = 0;
    this.#optionsBytes = 0;
    if (this.#wireEnd === packet.offset) return DecapReason.empty;
    if (this.#geneve) {
      const reason = this.#takeGeneve();
      if (reason !== DecapReason.frame) return reason;
      if (!this.#both) {
        const known = linkTypeOf(this.#protocol);
        this.#protocol = known >= 0 ? known : this.#linkType;
        if (this.#protocol < 0) return DecapReason.protocol;
      }
    }
    if (this.#both) {
      const reason = this.#between();
      if (reason !== DecapReason.frame) return reason;
    }
    if (this.#vxlan) {
      const reason = this.#takeVxlan();
      if (reason !== DecapReason.frame) return reason;
    }
    if (!this.#geneve || this.#both) this.#protocol = this.#linkType;
    if (this.#at < this.#end) return DecapReason.frame;
    return this.#at === this.#wireEnd ? DecapReason.empty : DecapReason.truncated;
  }

  #takeVxlan(): DecapReason {
    const u8 = this.#u8;
    const at = this.#at;
    if (at + VXLAN_HEADER > this.#end) return DecapReason.truncated;
    if ((u8[at] & FLAG_VNI) === 0) return DecapReason.flags;
    this.#vxlanVni = (u8[at + 4] << 16) | (u8[at + 5] << 8) | u8[at + 6];
    this.#at = at + VXLAN_HEADER;
    return DecapReason.frame;
  }

  #takeGeneve(): DecapReason {
    const u8 = this.#u8;
    const at = this.#at;
    if (at + GENEVE_HEADER > this.#end) return DecapReason.truncated;
    if (u8[at] >>> 6 !== 0) return DecapReason.version;
    const flags = u8[at + 1];
    const optionsBytes = (u8[at] & 0x3f) * 4;
    const options = at + GENEVE_HEADER;
    if (options + optionsBytes > this.#end) return DecapReason.truncated;
    if ((flags & GENEVE_CONTROL) !== 0) return DecapReason.control;
    if (optionsBytes > 0) {
      const reason = optionsAreSound(u8, options, options + optionsBytes, (flags & GENEVE_CRITICAL) !== 0);
      if (reason !== DecapReason.frame) return reason;
    }
    this.#protocol = (u8[at + 2] << 8) | u8[at + 3];
    this.#geneveVni = (u8[at + 4] << 16) | (u8[at + 5] << 8) | u8[at + 6];
    this.#optionsAt = options;
    this.#optionsBytes = optionsBytes;
    this.#at = options + optionsBytes;
    return DecapReason.frame;
  }

  /** GENEVE+VXLAN: over IPv4 or IPv6 and UDP to the VXLAN header. */
  #between(): DecapReason {
    if (this.#at >= this.#end) return this.#at === this.#wireEnd ? DecapReason.empty : DecapReason.truncated;
    const reason =
      this.#protocol === EtherType.ipv4
        ? this.#ipv4()
        : this.#protocol === EtherType.ipv6
          ? this.#ipv6()
          : DecapReason.protocol;
    return reason === DecapReason.frame ? this.#udp() : reason;
  }

  #ipv4(): DecapReason {
    const u8 = this.#u8;
    const at = this.#at;
    if (at + 20 > this.#end) return DecapReason.truncated;
    const header = (u8[at] & 15) * 4;
    const total = (u8[at + 2] << 8) | u8[at + 3];
    if (u8[at] >>> 4 !== 4 || header < 20 || total < header) return DecapReason.inner;
    if ((((u8[at + 6] << 8) | u8[at + 7]) & 0x3fff) !== 0) return DecapReason.fragment;
    if (u8[at + 9] !== IpProto.udp) return DecapReason.inner;
    return this.#inside(at + header, at + total);
  }

  #ipv6(): DecapReason {
    const u8 = this.#u8;
    const at = this.#at;
    if (at + 40 > this.#end) return DecapReason.truncated;
    if (u8[at] >>> 4 !== 6) return DecapReason.inner;
    const end = at + 40 + ((u8[at + 4] << 8) | u8[at + 5]);
    let next = u8[at + 6];
    let here = at + 40;
    for (let n = 0; n < MAX_EXTENSIONS; n++) {
      if (next === IpProto.udp) return this.#inside(here, end);
      if (next === IpProto.fragment) return DecapReason.fragment;
      if (next !== IpProto.hopByHop && next !== IpProto.destination && next !== IpProto.routing)
        return DecapReason.inner;
      if (here + 8 > this.#end) return DecapReason.truncated;
      next = u8[here];
      here += (u8[here + 1] + 1) * 8;
    }
    return DecapReason.inner;
  }

  /** What follows begins at `at` and ends, as an inner length says, at `end`. */
  #inside(at: number, end: number): DecapReason {
    if (end > this.#wireEnd || at > end) return DecapReason.inner;
    this.#at = at;
    this.#wireEnd = end;
    this.#end = Math.min(this.#end, end);
    return DecapReason.frame;
  }

  #udp(): DecapReason {
    const u8 = this.#u8;
    const at = this.#at;
    if (at + UDP_HEADER > this.#wireEnd) return DecapReason.inner;
    if (at + UDP_HEADER > this.#end) return DecapReason.truncated;
    if (((u8[at + 2] << 8) | u8[at + 3]) !== VXLAN_PORT) return DecapReason.inner;
    return this.#inside(at + UDP_HEADER, at + ((u8[at + 4] << 8) | u8[at + 5]));
  }
}
