/** Sizes and offsets in bytes of the structures in bpf/xsk.h. Written by scripts/gen-layouts.ts: do not edit. */

/** struct sl_xsk_note */
export const SlXskNote = { size: 16, members: { sec: 0, nsec: 4, vlan_tci: 8, flags: 12 } } as const;
