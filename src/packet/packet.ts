/** How far the transport checksum of a frame can be trusted to be in the frame at all. */
export const Checksum = {
  /** Nothing is known: validate it. */
  unknown: 0,
  /** Left to the hardware by a sender on this host (PACKET_AUX TP_STATUS_CSUMNOTREADY): the field is not filled in. */
  notReady: 1,
  /** The receiver has validated it already (TP_STATUS_CSUM_VALID). */
  valid: 2,
} as const;
export type Checksum = (typeof Checksum)[keyof typeof Checksum];

/** Which tunnel of a mirror a frame was taken out of. */
export const Tunnelled = { none: 0, vxlan: 1, geneve: 2 } as const;
export type Tunnelled = (typeof Tunnelled)[keyof typeof Tunnelled];

/**
 * One captured frame, as a cursor: a source owns one and moves it from frame to frame, so that no packet
 * costs an allocation. Whoever wants to keep anything of it copies it during the call.
 */
export class Packet {
  /** The memory that the frame lies in (a ring block, a piece of a file); `offset` is where it begins. */
  u8: Uint8Array = new Uint8Array(0);
  offset = 0;
  /** Bytes captured, at u8[offset]. */
  caplen = 0;
  /** Bytes on the wire; at least caplen. */
  wirelen = 0;
  /** Seconds since the epoch. A double holds today's times to 0.24 microseconds, as in Zeek. */
  ts = 0;
  /** libpcap DLT value: 1 is Ethernet. */
  linkType = 1;
  /** VLAN tag (TCI, 16 bits) that the kernel or NIC took out of the frame, or -1. */
  vlanTci = -1;
  checksum: Checksum = Checksum.unknown;
  /** Sent by this host (PACKET_OUTGOING). */
  outgoing = false;
  /** A mirror's frame: the tunnel that was taken off, and its network identifier, or -1. */
  tunnel: Tunnelled = Tunnelled.none;
  vni = -1;
  /** VXLAN inside of GENEVE: the identifier of the GENEVE tunnel, or -1. */
  outerVni = -1;
  /** GENEVE options that came with the frame, in `u8`. */
  optionsAt = 0;
  optionsBytes = 0;
}

export type PacketSink = (packet: Packet) => void;
/** The first `count` of these. */
export type BatchSink = (packets: readonly Packet[], count: number) => void;
