/** What a datagram of a mirror came to: `frame`, or why there is none in it. Indices of `Decapsulator.counts`. */
export const DecapReason = {
  frame: 0,
  /** Nothing in the datagram, or nothing behind the header. */
  empty: 1,
  /** The headers go beyond what there is of the datagram. */
  truncated: 2,
  /** GENEVE of another version than 0. */
  version: 3,
  /** GENEVE with the O bit: a control packet for the tunnel's end. */
  control: 4,
  /** GENEVE with a critical option that is not known: must not be looked into (RFC 8926, 3.5). */
  critical: 5,
  /** GENEVE options that do not fill the room that the header gives them. */
  options: 6,
  /** VXLAN without the I flag: no valid VNI (RFC 7348, 5). */
  flags: 7,
  /** GENEVE around something else than Ethernet, IP or PPP. */
  protocol: 8,
  /** GENEVE+VXLAN: a fragment between the two. */
  fragment: 9,
  /** GENEVE+VXLAN: no sound IP with UDP to the VXLAN port between the two. */
  inner: 10,
} as const;
export type DecapReason = (typeof DecapReason)[keyof typeof DecapReason];

/** How many there are. */
export const DECAP_REASONS = 11;

/** Their names, in the order of their numbers. */
export const DECAP_REASON_NAMES = Object.keys(DecapReason) as readonly (keyof typeof DecapReason)[];
