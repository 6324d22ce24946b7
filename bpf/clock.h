/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The gate's clock: CLOCK_MONOTONIC in steps of a kernel tick, asked for once per tick and CPU. A load instead of a call.
 */
#ifndef SLUICE_CLOCK_H
#define SLUICE_CLOCK_H

#include "common.h"
#include "maps.h"

/* Of sl_ledger.jiffy: the time may be that of the jiffy before, and is asked for again. */
#define SL_JIFFY_UNSURE (1ULL << 63)

static __always_inline __u64 clock(struct sl_ledger *mine)
{
	__u64 jiffy = bpf_jiffies64();
	__u64 now, seen;

	if (likely(mine && READ_ONCE(mine->jiffy) == jiffy))
		return READ_ONCE(mine->now);
	now = bpf_ktime_get_coarse_ns();
	/*
	 * The kernel counts the jiffy a moment before it moves this clock: in between it still has the old value. It is new for
	 * sure if it has moved since this CPU looked in this jiffy or the one before.
	 */
	if (mine && now != READ_ONCE(mine->now)) {
		seen = READ_ONCE(mine->jiffy) & ~SL_JIFFY_UNSURE;
		WRITE_ONCE(mine->now, now);
		WRITE_ONCE(mine->jiffy, jiffy - seen <= 1 ? jiffy : jiffy | SL_JIFFY_UNSURE);
	}
	return now;
}

#endif
