/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* History events of a shunted flow, and the synchronization of an armed one. */
#ifndef SLUICE_HISTORY_H
#define SLUICE_HISTORY_H

#include "state.h"

__noinline int is_power_of_ten(__u32 n)
{
	return n == 1 || n == 10 || n == 100 || n == 1000 || n == 10000 || n == 100000 || n == 1000000 ||
	       n == 10000000 || n == 100000000 || n == 1000000000;
}

__noinline int log_event(struct sl_flow *f, __u32 event)
{
	__u32 at;

	if (!f)
		return 0;
	at = __sync_fetch_and_add(&f->log_len, 1);
	if (at < 16)
		__sync_fetch_and_or(&f->log[0], (__u64)event << (at * 4));
	else if (at < SL_LOG_EVENTS)
		__sync_fetch_and_or(&f->log[1], (__u64)event << (at * 4 - 64));
	/* The last slot is taken: stop here, let user space read the log, and shunt again with an empty one. */
	if (at >= SL_LOG_EVENTS - 1)
		end_flow(f, SL_END_LOG);
	return 0;
}

__noinline int log_scaled(struct sl_flow *f, __u32 event, __u32 *count)
{
	if (!f || !count)
		return 0;
	/* Atomic on any CPU: each of these is rare, and a lost one would move a letter. */
	return is_power_of_ten(__sync_fetch_and_add(count, 1) + 1) ? log_event(f, event) : 0;
}

/* An armed direction that is to be synchronized with its owner, or has been. */
__noinline int on_sync(struct sl_dir *d, __u32 word, bool zero_window, bool rexmit)
{
	if (!d)
		return 0;
	if (!(word & SL_SYNC_DONE) &&
	    ((__s32)((__u32)d->seq - d->sync_seq) > 0 || (__s32)(d->ack - d->sync_ack) > 0)) {
		if (!(__sync_fetch_and_or(&d->cpu, SL_SYNC_DONE) & SL_SYNC_DONE)) {
			WRITE_ONCE(d->sync_seq, (__u32)d->seq);
			WRITE_ONCE(d->sync_ack, d->ack);
			/* The owner has counted these, and this packet. */
			WRITE_ONCE(d->rexmits, 0);
			WRITE_ONCE(d->zero_windows, 0);
		}
		return 0;
	}
	if (zero_window)
		__sync_fetch_and_add(&d->zero_windows, 1);
	if (rexmit)
		__sync_fetch_and_add(&d->rexmits, 1);
	return 0;
}

#endif
