/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The way out: every packet is counted once, under its verdict, and then handed on. */
#ifndef SLUICE_LEAVE_H
#define SLUICE_LEAVE_H

#include "common.h"
#include "maps.h"
#include "notes.h"
#ifndef SLUICE_SOCKET_FILTER
#include "sample.h"
#endif
#include "steer.h"
#include "trace.h"

static __always_inline int action_of(__u32 verdict)
{
	switch (verdict) {
	case SL_V_SHUNTED:
	case SL_V_SHUNTED_PAIR:
#ifdef SLUICE_PEERS
	case SL_V_SHUNTED_PEER:
#endif
	case SL_V_RULE_DROPPED:
	case SL_V_RATE_LIMITED:
		return XDP_DROP;
	default:
		return XDP_PASS;
	}
}

static __always_inline void count(struct sl_ledger *mine, __u32 verdict, __u64 len)
{
	__u64 row = verdict;
	struct sl_count *c;

	if (unlikely(!mine))
		return;
	/* A number of its own: the verifier of Linux 6.1 does not carry a bound over to a copy that was made before the test. */
	asm volatile("" : "+r"(row));
	c = &mine->count[row < SL_VERDICTS ? row : SL_V_ABORTED];
	c->pkts++;
	c->bytes += len;
}

/* Slots by constant number: an empty one is a jump over nothing. */
static __always_inline int hand_on(struct xdp_md *ctx, int action)
{
	if (action == XDP_DROP) {
		bpf_tail_call_static(ctx, &hook, XDP_DROP);
		return XDP_DROP;
	}
	bpf_tail_call_static(ctx, &hook, XDP_PASS);
	bpf_tail_call_static(ctx, &next, 0);
	return XDP_PASS;
}

__noinline int tell_all(const struct sl_packet *p, __u32 verdict, __u32 cpu)
{
	if (cfg_trace & SL_TELL_NOTES)
		note(p, verdict);
	if (cfg_trace & SL_TELL_TRACE)
		tell(p, verdict, cpu);
	return 0;
}

static __always_inline int leave(struct xdp_md *ctx, struct sl_ledger *mine, const struct sl_packet *p,
				 __u32 cpu, __u32 verdict)
{
	if (cfg_trace) {
		tell_all(p, verdict, cpu);
#ifndef SLUICE_SOCKET_FILTER
		sample(ctx, p, verdict);
#endif
	}
	count(mine, verdict, p->frame_len);
#ifdef SLUICE_STEER
	if (cfg_steer && action_of(verdict) == XDP_PASS && may_steer(ctx, verdict) &&
	    steer_packet(p, cpu) == XDP_REDIRECT) {
		if (mine) {
			mine->steered.pkts++;
			mine->steered.bytes += p->frame_len;
		}
		bpf_tail_call_static(ctx, &hook, XDP_REDIRECT);
		return XDP_REDIRECT;
	}
#endif
	return hand_on(ctx, action_of(verdict));
}

#endif
