/** Sizes and offsets in bytes of the structures in bpf/cap.h. Written by scripts/gen-layouts.ts: do not edit. */

/** struct sl_cap_count */
export const SlCapCount = { size: 32, members: { seen: 0, unsampled: 8, captured: 16, lost: 24 } } as const;

/** struct sl_cap_record */
export const SlCapRecord = {
  size: 32,
  members: {
    time: 0,
    frame_len: 8,
    captured: 12,
    hook: 16,
    action: 17,
    noted: 18,
    verdict: 19,
    rule: 20,
    owner: 24,
    pad: 28,
  },
} as const;
