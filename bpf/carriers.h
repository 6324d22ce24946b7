/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tunnels over UDP are flows as well. A packet inside of one is dropped only where each of them has an entry of the same
 * owner in which it can be counted: the record of the tunnel misses it otherwise.
 */
#ifndef SLUICE_CARRIERS_H
#define SLUICE_CARRIERS_H

#include "books.h"
#include "fragments.h"
#include "maps.h"

static __always_inline struct sl_flow *carrier_of(const struct sl_way *w, __u32 i)
{
	const struct sl_carrier *c = &w->carrier[i & (SL_MAX_TUNNELS - 1)];

	return flow_of(c->key, c->family);
}

/* The books of one tunnel are open, as those of what is inside of it. */
static __always_inline bool is_open(struct sl_flow *f, __u32 dir, __u32 owner, __u64 now)
{
	struct sl_dir *d = dir ? &f->dir[1] : &f->dir[0];
	struct sl_dir *o = dir ? &f->dir[0] : &f->dir[1];
	__u32 state = READ_ONCE(d->state);
	__u64 limit = (__u64)d->idle_ms * 1000000;

	if (STATE(state) != SL_SHUNT || OWNER(state) != owner || !(READ_ONCE(d->cpu) & SL_CARRIER))
		return false;
	if (limit && now > READ_ONCE(d->last) + limit && now > READ_ONCE(o->last) + limit) {
		end_flow(f, SL_END_IDLE);
		return false;
	}
	return true;
}

/* Of this CPU. Not an argument of what is not static: a key in it would be none before Linux 6.2. */
static __always_inline const struct sl_way *this_way(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&way, &zero);
}

/* Several of them. Not static, as what follows: the verifier looks at it once. */
__noinline int carriers_open(__u32 owner, __u64 now)
{
	const struct sl_way *w = this_way();

	if (!w)
		return 0;
	for (__u32 i = 0; i < SL_MAX_TUNNELS && i < w->carriers; i++) {
		struct sl_flow *f = carrier_of(w, i);

		if (!f || !is_open(f, w->carrier[i].dir, owner, now))
			return 0;
	}
	return 1;
}

static __always_inline void count_carrier(struct sl_flow *f, const struct sl_carrier *c, __u32 cpu, __u64 now)
{
	struct sl_dir *d = c->dir ? &f->dir[1] : &f->dir[0];

	WRITE_ONCE(d->last, now);
	if (unlikely(!READ_ONCE(f->first)))
		WRITE_ONCE(f->first, now);
	if (likely(owns(d, READ_ONCE(d->cpu), cpu + 1))) {
		WRITE_ONCE(d->pkts, d->pkts + 1);
		WRITE_ONCE(d->ip_bytes, d->ip_bytes + c->ip_len);
		WRITE_ONCE(d->seq, d->seq + c->payload);
	} else {
		struct sl_spare *s = c->dir ? &f->spare[1] : &f->spare[0];

		__sync_fetch_and_add(&s->pkts, 1);
		__sync_fetch_and_add(&s->ip_bytes, c->ip_len);
		__sync_fetch_and_add(c->dir ? &f->log[1] : &f->log[0], c->payload);
	}
}

__noinline int count_carriers(__u32 cpu, __u64 now)
{
	const struct sl_way *w = this_way();

	if (!w)
		return 0;
	for (__u32 i = 0; i < SL_MAX_TUNNELS && i < w->carriers; i++) {
		struct sl_flow *f = carrier_of(w, i);

		if (f)
			count_carrier(f, &w->carrier[i], cpu, now);
	}
	return 0;
}

/* The innermost tunnel is none (INSIDE_VIOLATION): from here on the flow engine does not look into it any more. */
__noinline int end_carrier(void)
{
	const struct sl_way *w = this_way();
	struct sl_flow *f;

	if (!w || !w->carriers)
		return 0;
	f = carrier_of(w, w->carriers - 1);
	if (f && READ_ONCE(f->dir[0].cpu) & SL_CARRIER)
		end_flow(f, SL_END_TUNNEL);
	return 0;
}

#endif
