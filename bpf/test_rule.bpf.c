// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Rules written by hand, for tests and for bench/gate.ts: drop what comes from one address to one UDP port, limit what comes
 * to another. Shows what a program in the rules slot may expect and has to do (docs/adr/0016-rules-slot.md).
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "gate.h"
#include "rule-slots.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 cfg_rule = 7;
const volatile __be32 cfg_source = 0;     /* of what is dropped */
const volatile __be16 cfg_port = 0;       /* UDP port to which it is sent; 0: nothing is dropped */
const volatile __be16 cfg_limited_port = 0; /* UDP: from anybody; 0: nothing is limited */

static __always_inline __u32 verdict_of(struct xdp_md *ctx, const struct sl_packet *p)
{
	void *end = (void *)(long)ctx->data_end;
	struct iphdr *ip;

	if (p->family != 4 || p->parsed != SL_V_SHUNTED || p->proto != IPPROTO_UDP)
		return SL_V_ABORTED;
	if (cfg_limited_port && p->dport == cfg_limited_port)
		return SL_V_RATE_LIMITED;
	/* Not from the key: which of its addresses is the source depends on `dir`. */
	ip = (void *)(long)ctx->data + (p->l3 & 63);
	if (cfg_port && p->dport == cfg_port && (void *)(ip + 1) <= end && ip->saddr == cfg_source)
		return SL_V_RULE_DROPPED;
	return SL_V_ABORTED;
}

SEC("xdp.frags")
int test_rule(struct xdp_md *ctx)
{
	__u32 zero = 0, verdict;
	struct sl_packet *p = bpf_map_lookup_elem(&scratch, &zero);

	if (!p)
		return XDP_PASS;
	verdict = verdict_of(ctx, p);
	if (verdict == SL_V_ABORTED) {
		bpf_tail_call_static(ctx, &rules, SL_RULES_SHUNT);
		return XDP_PASS;
	}
	p->verdict = verdict;
	p->rule = cfg_rule;
	bpf_tail_call_static(ctx, &rules, SL_RULES_EXIT);
	return XDP_DROP;
}

/* Goes on to the program in the first slot of a chain. */
SEC("xdp.frags")
int test_chain(struct xdp_md *ctx)
{
	bpf_tail_call_static(ctx, &rules, SL_RULES_CHAIN);
	bpf_tail_call_static(ctx, &rules, SL_RULES_SHUNT);
	return XDP_PASS;
}
