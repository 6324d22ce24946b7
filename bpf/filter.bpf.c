// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The gate where no XDP program can be: a filter on the sockets of the sensor's own rings, with the same parsers, tables and
 * books. What it holds back does not get into the ring; every other socket sees it as ever.
 */
#define SLUICE_SOCKET_FILTER
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "gate.h"
#include "maps.h"
#include "frame.h"
#include "link.h"
#include "ipv4.h"
#include "ipv6.h"
#include "shunt.h"
#include "leave.h"
#include "ops.h"
#ifdef SLUICE_TUNNELS
#include "inner.h"
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Bytes of a frame that the ring keeps. */
const volatile __u32 cfg_snaplen = 0x7fffffff;

/*
 * Answers SL_V_SHUNTED when the packet has a key, else the verdict, from what can be found in so many bytes. Not static: the
 * verifier looks at it once.
 */
__noinline int parse(frame_ctx *ctx, struct sl_packet *p, struct sl_key6 *key, __u32 most)
{
	void *data, *end;
	__be16 proto;

	if (!p || !key || !copy_frame(ctx, most) || !frame_bounds(ctx, &data, &end))
		return SL_V_ABORTED;
	__builtin_memset(p, 0, sizeof(*p));
	p->frame_len = frame_length(ctx);
	proto = parse_link(ctx, p);
	if (likely(proto == bpf_htons(ETH_P_IP)))
		return parse_ipv4(data + p->l3, end, p, (struct sl_key4 *)key);
	if (proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(ctx, data + p->l3, end, p, key);
	return proto ? SL_V_PASS_NOT_IP : SL_V_PASS_PARSE;
}

static __always_inline int decided(frame_ctx *ctx, struct sl_ledger *mine, const struct sl_packet *p, __u32 verdict)
{
	/* The verifier knows nothing of what a function returns, and loses it in a copy that is made before a test. */
	verdict &= 31;
	asm volatile("" : "+r"(verdict));
	verdict &= 31;
	count(mine, verdict, p->frame_len);
	if (action_of(verdict) == XDP_DROP) {
		bpf_tail_call_static(ctx, &hook, XDP_DROP);
		return 0;
	}
	bpf_tail_call_static(ctx, &hook, XDP_PASS);
	/* How much of the frame to keep, where that is not the same for all. */
	bpf_tail_call_static(ctx, &next, 0);
	return cfg_snaplen;
}

SEC("socket")
int sluice_filter(frame_ctx *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct sl_ledger *mine = bpf_map_lookup_elem(&ledger, &cpu);
	struct sl_packet p = {};
	struct sl_key6 key = {};
	__u32 verdict = parse(ctx, &p, &key, COPY_FIRST);

	if (unlikely(verdict == SL_V_PASS_PARSE && p.frame_len > COPY_FIRST))
		verdict = parse(ctx, &p, &key, COPY_MOST);
#ifdef SLUICE_TUNNELS
	bool is_tunnel = false;

	if (p.family)
		verdict = go_inside(ctx, &p, &key, mine, verdict, &is_tunnel);
	if (is_tunnel)
		return decided(ctx, mine, &p, verdict);
#endif
	if (p.family == 6)
		verdict = shunt6(&p, &key, mine, cpu, verdict);
	else if (p.family == 4)
		verdict = shunt4(&p, &key, mine, cpu, verdict);
	return decided(ctx, mine, &p, verdict);
}

#ifdef SLUICE_TUNNELS
/* What may lie between the transport header of a tunnel and the end of the headers inside it. */
#define INNER_HEADERS 448

/* Where the filter goes on to with a tunnel (slot SL_RULES_INNER), once for each. */
SEC("socket")
int sluice_inner(frame_ctx *ctx)
{
	__u32 zero = 0, cpu = bpf_get_smp_processor_id();
	struct sl_ledger *mine = bpf_map_lookup_elem(&ledger, &cpu);
	struct sl_packet *outer = bpf_map_lookup_elem(&scratch, &zero);
	struct copy *c = copy_of_this_cpu();
	struct sl_packet p;

	if (c && outer && outer->l4 + INNER_HEADERS > c->length && c->length < outer->frame_len)
		copy_frame(ctx, COPY_MOST);
	return decided(ctx, mine, &p, look_inside(ctx, &p, mine, cpu));
}
#endif
