/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Changes of state that the packet path makes by itself. */
#ifndef SLUICE_STATE_H
#define SLUICE_STATE_H

#include "common.h"
#include "gate.h"

static __always_inline void end_dir(struct sl_dir *d, __u32 reason)
{
	/* Another CPU or the syscall program may change the word at the same time, each a bounded number of times. */
	for (int i = 0; i < 4; i++) {
		__u32 old = READ_ONCE(d->state);

		if (STATE(old) == SL_ENDING)
			return;
		if (__sync_val_compare_and_swap(&d->state, old, (old & 0xffff0000U) | reason << 8 | SL_ENDING) == old)
			return;
	}
}

__noinline int end_flow(struct sl_flow *f, __u32 reason)
{
	if (!f)
		return 0;
	end_dir(&f->dir[0], reason);
	end_dir(&f->dir[1], reason);
	return 0;
}

#endif
