/** Sizes and offsets in bytes of the structures in bpf/peers.h. Written by scripts/gen-layouts.ts: do not edit. */

/** struct peer_end_key */
export const PeerEndKey = {
  size: 40,
  members: { low: 0, high: 16, low_port: 32, high_port: 34, word: 36 },
} as const;

/** struct peer_suricata_key4 */
export const PeerSuricataKey4 = {
  size: 16,
  members: { src: 0, dst: 4, sport: 8, dport: 10, vlan0: 12, vlan1: 14 },
} as const;

/** struct peer_suricata_key6 */
export const PeerSuricataKey6 = {
  size: 40,
  members: { src: 0, dst: 16, sport: 32, dport: 34, vlan0: 36, vlan1: 38 },
} as const;

/** struct peer_suricata_value */
export const PeerSuricataValue = { size: 16, members: { packets: 0, bytes: 8 } } as const;

/** struct peer_zeek_key */
export const PeerZeekKey = {
  size: 44,
  members: { ip1: 0, ip2: 16, port1: 32, port2: 34, protocol: 36, outer_vlan: 38, inner_vlan: 40, pad: 42 },
} as const;

/** struct peer_zeek_pair_key */
export const PeerZeekPairKey = {
  size: 36,
  members: { ip1: 0, ip2: 16, outer_vlan: 32, inner_vlan: 34 },
} as const;

/** struct peer_zeek_value */
export const PeerZeekValue = {
  size: 48,
  members: {
    lock: 0,
    ended: 4,
    packets_from_1: 8,
    packets_from_2: 16,
    bytes_from_1: 24,
    bytes_from_2: 32,
    last: 40,
  },
} as const;
