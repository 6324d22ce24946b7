/** Sizes and offsets in bytes of the structures in bpf/gate.h. Written by scripts/gen-layouts.ts: do not edit. */

/** struct sl_watch4 */
export const SlWatch4 = { size: 128, members: { dir: 0 } } as const;

/** struct sl_watch6 */
export const SlWatch6 = { size: 160, members: { pad: 0, dir: 32 } } as const;

/** struct sl_watch_count */
export const SlWatchCount = {
  size: 96,
  members: {
    begun: 0,
    left: 8,
    unwatched: 16,
    made: 24,
    full: 56,
    excepted: 64,
    held: 72,
    window: 80,
    fresh: 88,
  },
} as const;

/** struct sl_watched */
export const SlWatched = {
  size: 64,
  members: {
    ip_bytes: 0,
    pkts: 8,
    word: 12,
    seq: 16,
    ack: 20,
    next: 24,
    have: 28,
    head: 32,
    mark: 40,
    last: 44,
    pad: 48,
  },
} as const;
