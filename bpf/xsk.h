/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Layouts shared by bpf/xsk.bpf.c and, through BTF, src/capture/xsk-layout.gen.ts. */
#ifndef SLUICE_XSK_H
#define SLUICE_XSK_H

#include <linux/types.h>

/* Of sl_xsk_note.flags; none: there is no note. */
enum sl_xsk_flag {
	SL_XSK_MONOTONIC = 1, /* the time is CLOCK_MONOTONIC */
	SL_XSK_REALTIME = 2,  /* the time is CLOCK_REALTIME: somebody has stamped the frame before */
	SL_XSK_VLAN = 4,      /* the tag that was taken out of the frame is in vlan_tci */
	SL_XSK_NOT_READY = 8, /* the checksum is not filled in: the sender left that to a card */
	SL_XSK_VALID = 16,    /* the checksum has been validated */
};

/* What the program writes before a frame (XDP metadata). */
struct sl_xsk_note {
	__u32 sec;
	__u32 nsec;
	__u32 vlan_tci;
	__u32 flags;
};
_Static_assert(sizeof(struct sl_xsk_note) == 16, "at most 32 bytes, a multiple of four");

#endif
