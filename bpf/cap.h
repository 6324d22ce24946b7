/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Layouts shared by bpf/cap.bpf.c, the filters that are generated in front of it and, through BTF, src/gate/cap-layout.gen.ts. */
#ifndef SLUICE_CAP_H
#define SLUICE_CAP_H

#include <linux/types.h>

/* XDP actions. */
#define SL_CAP_ACTIONS 5

/* Per CPU and action. What does not match is seen - unsampled - captured - lost. */
struct sl_cap_count {
	__u64 seen;      /* counted by the filter */
	__u64 unsampled; /* matched, and was not the one in so many */
	__u64 captured;  /* went into the ring */
	__u64 lost;      /* matched and found no room in the ring */
};

/* Before the bytes of a packet. */
struct sl_cap_record {
	__u64 time; /* CLOCK_MONOTONIC ns */
	__u32 frame_len;
	__u32 captured;
	__u8 hook;   /* number of the hook among those that are captured from */
	__u8 action; /* XDP action */
	__u8 noted;  /* SL_NOTED_* of the gate: what of the following is there */
	__u8 verdict;
	__u32 rule;
	__u32 owner;
	__u32 pad;
};
_Static_assert(sizeof(struct sl_cap_record) == 32, "no implicit padding");

#endif
