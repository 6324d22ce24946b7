/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Entries that the gate shunts by itself once they have passed as much as they may. In objects of its own (SLUICE_WATCH): in
 * the others nothing of this is there at all.
 */
#ifndef SLUICE_AFTER_H
#define SLUICE_AFTER_H

#include <linux/in.h>
#include "state.h"

#ifdef SLUICE_WATCH
/* Both directions, as the syscall program does it (ops.h); another CPU may be doing the same. */
static __always_inline void flip_by_itself(struct sl_flow *f)
{
	bool ended = false;

	for (int i = 0; i < 2; i++) {
		struct sl_dir *d = &f->dir[i];
		__u32 old = READ_ONCE(d->state);

		if (STATE(old) == SL_ARMED) {
			if (!(READ_ONCE(d->cpu) & SL_TIED))
				WRITE_ONCE(d->sync_seq, (__u32)d->seq);
			old = __sync_val_compare_and_swap(&d->state, old, (old & ~0xffU) | SL_SHUNT);
		}
		ended = ended || STATE(old) == SL_ENDING;
	}
	/* A FIN, RST or SYN came in between. */
	if (ended)
		end_flow(f, SL_END_ASKED);
}

/* This packet passes; the next one may not. Not static: the verifier looks at it once. */
__noinline int use_up(struct sl_flow *f, __u32 dir, __u32 used)
{
	struct sl_dir *d;

	if (!f)
		return 0;
	d = dir ? &f->dir[1] : &f->dir[0];
	if ((__s32)(__sync_fetch_and_add(&d->sync_ack, -used) - used) <= 0)
		flip_by_itself(f);
	return 0;
}

static __always_inline void on_armed(struct sl_flow *f, struct sl_dir *d, const struct sl_packet *p, __u32 word)
{
	if (likely(!(word & SL_AFTER)))
		return;
	/* Made without sequence state: where it stands now is where it begins. */
	if (word & SL_LEARN && p->proto == IPPROTO_TCP) {
		WRITE_ONCE(d->seq, (__u64)(p->seq + p->payload));
		WRITE_ONCE(d->ack, p->ack);
		__sync_fetch_and_and(&d->cpu, ~SL_LEARN);
	}
	use_up(f, p->dir, word & SL_AFTER_PKTS ? 1 : p->ip_len);
}

/* Of a direction that was silent until it was shunted: where its sequence began. */
static __always_inline void learned(struct sl_dir *d, __u32 word, __u32 seq)
{
	if (!(word & SL_TIED))
		WRITE_ONCE(d->sync_seq, seq);
}
#else
#define on_armed(f, d, p, word)
#define learned(d, word, seq)
#endif

#endif
