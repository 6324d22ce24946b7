/** Sizes and offsets in bytes of the structures in bpf/rules.h. Written by scripts/gen-layouts.ts: do not edit. */

/** struct sl_rule */
export const SlRule = {
  size: 72,
  members: {
    action: 0,
    order: 4,
    off: 8,
    until: 12,
    per_packet: 16,
    per_byte: 24,
    burst: 32,
    per: 40,
    prefix4: 44,
    prefix6: 48,
    sample: 52,
    sample_size: 56,
    id: 60,
    bucket: 64,
  },
} as const;

/** struct sl_rule_count */
export const SlRuleCount = {
  size: 32,
  members: { matched_pkts: 0, matched_bytes: 8, dropped_pkts: 16, dropped_bytes: 24 },
} as const;

/** struct sl_rule_matches */
export const SlRuleMatches = {
  size: 272,
  members: { count: 0, entry: 4, frame_len: 8, place: 12, full: 16, rule: 20 },
} as const;

/** struct sl_sample */
export const SlSample = {
  size: 24,
  members: { rule: 0, frame_len: 4, captured: 8, ifindex: 12, time: 16 },
} as const;
