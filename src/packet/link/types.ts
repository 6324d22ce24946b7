/**
 * Link types as libpcap's DLT numbers on Linux (pcap-linktype(7)). Negative ones never come from a file: they name what
 * lies inside of other frames.
 */
export const LinkType = {
  null: 0,
  ethernet: 1,
  ppp: 9,
  fddi: 10,
  raw: 12,
  rawOpenBsd: 14,
  pppSerial: 50,
  pppEther: 51,
  rawFile: 101,
  wlan: 105,
  loop: 108,
  sll: 113,
  prism: 119,
  radiotap: 127,
  avs: 163,
  ipv4: 228,
  ipv6: 229,
  nflog: 239,
  sll2: 276,
  /** An 802.2 LLC header with SNAP: what a subframe of an 802.11 aggregate holds. */
  snap: -1,
} as const;

/** EtherTypes (IEEE 802 numbers); below 1,536 the field is a length. */
export const EtherType = {
  ipv4: 0x0800,
  vlan: 0x8100,
  ipv6: 0x86dd,
  mpls: 0x8847,
  mplsMulticast: 0x8848,
  pppoe: 0x8864,
  serviceVlan: 0x88a8,
  pbb: 0x88e7,
  fabricPath: 0x8903,
  vnTag: 0x8926,
  oldServiceVlan: 0x9100,
} as const;

export const MAX_LENGTH_FIELD = 1500;

/** How far a walk over the layers below IP has come. */
export class LinkCursor {
  u8: Uint8Array = new Uint8Array(0);
  /** Offset of the next header, and of the end of what was captured. */
  at = 0;
  end = 0;
  /** EtherType of what begins at `at`; at most 1,500 for LLC. */
  type = 0;
}

/** What a step of the walk came to. */
export const Step = {
  /** `at` and `type` tell what comes next. */
  next: 0,
  /** Cut off. */
  short: 1,
  /** Nothing that holds IP. */
  other: 2,
  /** Several frames in one (802.11 A-MSDU) from `at` to `end`. */
  aggregate: 3,
  /** A link type that is not known. */
  unknown: 4,
} as const;
export type Step = (typeof Step)[keyof typeof Step];
