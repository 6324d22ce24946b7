/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Changes asked for by user space: the only writer of live entries outside the packet path. */
#ifndef SLUICE_OPS_H
#define SLUICE_OPS_H

#include <asm/errno.h>
#include "maps.h"
#include "state.h"

static __always_inline struct sl_flow *find(struct sl_op *op)
{
	struct sl_value4 *v4;
	struct sl_value6 *v6;

	if (op->family == 4) {
		v4 = bpf_map_lookup_elem(&flows4, op->key);
		return v4 ? &v4->flow : 0;
	}
	v6 = bpf_map_lookup_elem(&flows6, op->key);
	if (!v6)
		return 0;
	/* Keep the compiler from adding the offset before the test: the verifier wants it after. */
	asm volatile("" : "+r"(v6));
	return &v6->flow;
}

static __always_inline void init_flow(struct sl_flow *f, const struct sl_op *op, __u64 now)
{
	for (int i = 0; i < 2; i++) {
		f->dir[i].state = SL_ARMED | op->owner << 16;
		f->dir[i].seq = op->seq[i];
		f->dir[i].ack = op->ack[i];
		f->dir[i].idle_ms = op->idle_ms;
		f->dir[i].cpu = op->owner ? 0 : SL_LEARN;
		if (cfg_tunnels)
			f->dir[i].cpu |= op->flags & (SL_TIED | SL_CARRIER);
		f->dir[i].last = now;
	}
	f->cookie = op->cookie;
}

static __noinline int arm(struct sl_op *op)
{
	__u64 now = bpf_ktime_get_ns();

	/* Somebody has to let go of an entry some day: an owner with a lease, or a time limit. */
	if (op->owner >= SL_OWNERS || (!op->owner && !op->cookie))
		return -EINVAL;
	if (op->family == 4) {
		struct sl_value4 v4 = {};

		init_flow(&v4.flow, op, now);
		return bpf_map_update_elem(&flows4, op->key, &v4, BPF_NOEXIST);
	}
	struct sl_value6 v6 = {};

	init_flow(&v6.flow, op, now);
	return bpf_map_update_elem(&flows6, op->key, &v6, BPF_NOEXIST);
}

static __always_inline bool behind(__u32 mine, __u32 theirs)
{
	return (__s32)(mine - theirs) < 0;
}

/*
 * What the owner has beyond the entry is from packets before it was armed: their direction may be silent since, and nothing
 * would ever tell the entry.
 */
static __always_inline void catch_up(struct sl_dir *d, __u32 seq, __u32 ack)
{
	__u64 high = READ_ONCE(d->seq);
	__u32 mine = READ_ONCE(d->ack);

	if (behind(high, seq))
		__sync_val_compare_and_swap(&d->seq, high, high + (seq - (__u32)high));
	if (behind(mine, ack))
		__sync_val_compare_and_swap(&d->ack, mine, ack);
}

/* Sets the mark at which both sides begin to count, beyond all that either has seen. */
static __noinline int sync(struct sl_op *op)
{
	struct sl_flow *f = find(op);

	if (!f)
		return -ENOENT;
	for (int i = 0; i < 2; i++) {
		struct sl_dir *d = &f->dir[i];

		catch_up(d, op->seq[i], op->ack[i]);
		/* A packet was quicker. */
		if (behind(READ_ONCE(d->seq), op->seq[i]) || behind(READ_ONCE(d->ack), op->ack[i]))
			return -EAGAIN;
	}
	for (int i = 0; i < 2; i++) {
		struct sl_dir *d = &f->dir[i];

		__sync_fetch_and_and(&d->cpu, ~(SL_SYNC_WAIT | SL_SYNC_DONE));
		WRITE_ONCE(d->rexmits, 0);
		WRITE_ONCE(d->zero_windows, 0);
		op->seq[i] = READ_ONCE(d->seq);
		op->ack[i] = READ_ONCE(d->ack);
		WRITE_ONCE(d->sync_seq, op->seq[i]);
		WRITE_ONCE(d->sync_ack, op->ack[i]);
		__sync_fetch_and_or(&d->cpu, SL_SYNC_WAIT);
	}
	return 0;
}

/* Leaves it armed: the gate flips it by itself when one direction has passed as much as it may. */
static __noinline int flip_later(struct sl_flow *f, struct sl_op *op)
{
	bool apart = false;

	for (int i = 0; i < 2; i++) {
		__u32 was = __sync_fetch_and_or(&f->dir[i].cpu, SL_SYNC_DONE);

		/* A packet has just passed the mark, unseen by the owner: both have to take their counts again. */
		if (was & SL_SYNC_WAIT && !(was & SL_SYNC_DONE) != !(op->synced >> i & 1))
			apart = true;
	}
	if (apart)
		return -EAGAIN;
	for (int i = 0; i < 2; i++) {
		struct sl_dir *d = &f->dir[i];

		__sync_fetch_and_add(&d->rexmits, op->seq[i]);
		__sync_fetch_and_add(&d->zero_windows, op->ack[i]);
		WRITE_ONCE(d->sync_ack, op->after);
		if (cfg_tunnels && READ_ONCE(d->cpu) & SL_TIED)
			WRITE_ONCE(d->sync_seq, op->tie[i]);
		__sync_fetch_and_or(&d->cpu, op->flags & SL_AFTER);
	}
	if (STATE(READ_ONCE(f->dir[0].state)) == SL_ENDING || STATE(READ_ONCE(f->dir[1].state)) == SL_ENDING) {
		end_flow(f, SL_END_ASKED);
		return -ECANCELED;
	}
	return 0;
}

static __noinline int flip(struct sl_op *op)
{
	struct sl_flow *f = find(op);
	bool lost = false;

	if (!f)
		return -ENOENT;
	if (op->flags & SL_AFTER)
		return flip_later(f, op);
	for (int i = 0; i < 2; i++) {
		__sync_fetch_and_add(&f->dir[i].rexmits, op->seq[i]);
		__sync_fetch_and_add(&f->dir[i].zero_windows, op->ack[i]);
	}
	for (int i = 0; i < 2; i++) {
		__u32 old = READ_ONCE(f->dir[i].state);

		if (cfg_tunnels && READ_ONCE(f->dir[i].cpu) & SL_TIED)
			WRITE_ONCE(f->dir[i].sync_seq, op->tie[i]);
		if (STATE(old) != SL_ARMED ||
		    __sync_val_compare_and_swap(&f->dir[i].state, old, (old & ~0xffU) | SL_SHUNT) != old)
			lost = true;
	}
	/* A FIN, RST or SYN came in between: it has ended the one direction that it found, end the other as well. */
	if (lost || STATE(READ_ONCE(f->dir[0].state)) == SL_ENDING || STATE(READ_ONCE(f->dir[1].state)) == SL_ENDING) {
		end_flow(f, SL_END_ASKED);
		return -ECANCELED;
	}
	return 0;
}

static __noinline int end(struct sl_op *op)
{
	struct sl_flow *f = find(op);

	if (!f)
		return -ENOENT;
	end_flow(f, SL_END_ASKED);
	return 0;
}

/* Ends without a touch of the counters: they are read after a grace period, and then the row is freed. */
static __noinline int end_pair(struct sl_op *op)
{
	struct sl_pair *p = bpf_map_lookup_elem(&pairs, op->key);

	if (!p)
		return -ENOENT;
	WRITE_ONCE(p->owner, 0);
	WRITE_ONCE(p->limit, 1);
	return 0;
}

static __noinline int end_prefix(struct sl_op *op)
{
	__u32 row = op->cookie;
	struct sl_prefix_pair *p = bpf_map_lookup_elem(&prefixes, &row);

	if (!p)
		return -ENOENT;
	WRITE_ONCE(p->used, 0);
	return 0;
}

static long one_op(__u32 i, void *data)
{
	struct sl_ops_range *range = data;
	__u32 at = range->first + i;
	struct sl_op *op = bpf_map_lookup_elem(&ops, &at);
	struct sl_flow *f;

	if (!op)
		return 1;
	switch (op->code) {
	case SL_OP_ARM: op->result = arm(op); break;
	case SL_OP_SYNC: op->result = sync(op); break;
	case SL_OP_FLIP: op->result = flip(op); break;
	case SL_OP_END: op->result = end(op); break;
	case SL_OP_PAIR_END: op->result = end_pair(op); break;
	case SL_OP_PREFIX_END: op->result = end_prefix(op); break;
	default: op->result = -EINVAL;
	}
	f = find(op);
	op->state[0] = f ? f->dir[0].state : 0;
	op->state[1] = f ? f->dir[1].state : 0;
	range->done = i + 1;
	return 0;
}

/* The only writer of live entries outside the packet path: works through ops[first .. first + count). */
SEC("syscall")
int sluice_ops(struct sl_ops_range *ctx)
{
	struct sl_ops_range range = { .first = ctx->first, .count = ctx->count };

	bpf_loop(range.count, one_op, &range, 0);
	ctx->done = range.done;
	return 0;
}

#endif
