/** What a tunnel header came to. */
export const Inside = {
  /** A packet lies inside: see TunnelPayload. */
  packet: 0,
  /** The header is right, but there is nothing inside that could be looked at. */
  nothing: 1,
  /** It is not this tunnel, or damaged: what else the flow carries is not looked at (Zeek: analyzer violation). */
  violation: 2,
} as const;
export type Inside = (typeof Inside)[keyof typeof Inside];

/** Where the packet inside of a tunnel lies: set by the parsers of this directory, which never throw. */
export class TunnelPayload {
  /** Offset and captured bytes. */
  at = 0;
  bytes = 0;
  /** A LinkType. */
  linkType = 0;
  /** VXLAN, GENEVE: network identifier; else 0. */
  vni = 0;
  /** The header was right: the flow is such a tunnel. */
  confirmed = false;

  set(at: number, end: number, linkType: number): Inside {
    this.at = at;
    this.bytes = end - at;
    this.linkType = linkType;
    return this.bytes > 0 ? Inside.packet : Inside.nothing;
  }
}

/** Total length of the IP packet at `at`, of which at least the fixed header is there: -1 when it is none of `version`. */
export function ipTotal(u8: Uint8Array, at: number, end: number, version: 4 | 6): number {
  if (at + (version === 4 ? 20 : 40) > end || u8[at] >>> 4 !== version) return -1;
  if (version === 4) return (u8[at + 2] << 8) | u8[at + 3];
  return 40 + ((u8[at + 4] << 8) | u8[at + 5]);
}
