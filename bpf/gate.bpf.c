// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The gate: parse, ask the rules if there are any, look the flow up once, count and drop what is shunted, pass everything
 * else. Any doubt (cut, malformed, fragment, unknown) passes. Each packet is counted once, under one verdict.
 */
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
#include "watch.h"
#include "ops.h"
#ifdef SLUICE_TUNNELS
#include "inner.h"
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Of struct sl_packet, what the parser fills in. */
#define HEAD __builtin_offsetof(struct sl_packet, verdict)

/* Goes on to the rules, which find in the scratch what was parsed. Comes back when there are none. */
static __always_inline void ask_rules(struct xdp_md *ctx, struct sl_packet *p, const void *key, __u32 size,
				      __u32 verdict)
{
	struct sl_packet *s;
	__u32 zero = 0;

	if (cfg_trace || cfg_steer) {
		if (size)
			__builtin_memcpy(p->key, key, size);
		p->parsed = verdict;
	}
	if (!cfg_rules)
		return;
	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s)
		return;
	__builtin_memcpy(s, p, HEAD);
	if (size)
		__builtin_memcpy(s->key, key, size);
	s->parsed = verdict;
	if (cfg_tunnels)
		s->tie = 0;
	bpf_tail_call_static(ctx, &rules, SL_RULES_ENTRY);
}

SEC("xdp.frags")
int sluice_gate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 cpu = bpf_get_smp_processor_id();
	struct sl_ledger *mine = bpf_map_lookup_elem(&ledger, &cpu);
	struct sl_packet p;
	struct sl_key6 key; /* of IPv4 in its first bytes */
	__be16 proto;
#ifdef SLUICE_TUNNELS
	bool decided;
#endif
	int verdict;

	/* Its key is not used here, unless by options: it is made where the look-up reads it. */
	__builtin_memset(&p, 0, HEAD);
	if (cfg_trace || cfg_fragments || cfg_rules || cfg_pairs || cfg_prefixes || cfg_tunnels || cfg_peers || cfg_steer) {
		__builtin_memset((void *)&p + HEAD, 0, sizeof(p) - HEAD);
		__builtin_memset(&key, 0, sizeof(key));
	}
	p.frame_len = frame_length(ctx);
	IN_MEMORY(p);
	proto = parse_link(ctx, &p);
	if (likely(proto == bpf_htons(ETH_P_IP))) {
		verdict = parse_ipv4(data + p.l3, end, &p, (struct sl_key4 *)&key);
		ask_rules(ctx, &p, &key, sizeof(struct sl_key4), verdict);
#ifdef SLUICE_TUNNELS
		verdict = go_inside(ctx, &p, &key, mine, verdict, &decided);
		if (decided)
			return leave(ctx, mine, &p, cpu, verdict);
#endif
		return leave(ctx, mine, &p, cpu,
			     watch(ctx, &p, &key, mine, shunt4(&p, &key, mine, cpu, verdict)));
	}
	if (proto == bpf_htons(ETH_P_IPV6)) {
		verdict = parse_ipv6(ctx, data + p.l3, end, &p, &key);
		ask_rules(ctx, &p, &key, sizeof(key), verdict);
#ifdef SLUICE_TUNNELS
		verdict = go_inside(ctx, &p, &key, mine, verdict, &decided);
		if (decided)
			return leave(ctx, mine, &p, cpu, verdict);
#endif
		return leave(ctx, mine, &p, cpu,
			     watch(ctx, &p, &key, mine, shunt6(&p, &key, mine, cpu, verdict)));
	}
	verdict = proto ? SL_V_PASS_NOT_IP : SL_V_PASS_PARSE;
	ask_rules(ctx, &p, 0, 0, verdict);
	return leave(ctx, mine, &p, cpu, verdict);
}

/* Where rules go on to with what they do not match (slot SL_RULES_SHUNT). Parses nothing again. */
SEC("xdp.frags")
int sluice_shunt(struct xdp_md *ctx)
{
	__u32 zero = 0, cpu = bpf_get_smp_processor_id();
	struct sl_ledger *mine = bpf_map_lookup_elem(&ledger, &cpu);
	struct sl_packet *p = bpf_map_lookup_elem(&scratch, &zero);
#ifdef SLUICE_TUNNELS
	bool decided;
#endif
	int verdict;

	if (!p)
		return hand_on(ctx, XDP_PASS);
	verdict = p->parsed;
#ifdef SLUICE_TUNNELS
	verdict = go_inside(ctx, p, (struct sl_key6 *)p->key, mine, verdict, &decided);
	if (decided)
		return leave(ctx, mine, p, cpu, verdict);
#endif
	if (p->family == 6)
		verdict = shunt6(p, (struct sl_key6 *)p->key, mine, cpu, verdict);
	else if (p->family == 4)
		verdict = shunt4(p, (struct sl_key6 *)p->key, mine, cpu, verdict);
	return leave(ctx, mine, p, cpu, watch(ctx, p, (struct sl_key6 *)p->key, mine, verdict));
}

#ifdef SLUICE_TUNNELS
/* Where the gate goes on to with a tunnel (slot SL_RULES_INNER), once for each. */
SEC("xdp.frags")
int sluice_inner(struct xdp_md *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct sl_ledger *mine = bpf_map_lookup_elem(&ledger, &cpu);
	struct sl_packet p;
	int verdict = look_inside(ctx, &p, mine, cpu);

	return leave(ctx, mine, &p, cpu, watch(ctx, &p, (struct sl_key6 *)p.key, mine, verdict));
}
#endif

/* Where rules go on to with what they drop (slot SL_RULES_EXIT); the verdict is in the scratch. */
SEC("xdp.frags")
int sluice_exit(struct xdp_md *ctx)
{
	__u32 zero = 0, cpu = bpf_get_smp_processor_id();
	struct sl_ledger *mine = bpf_map_lookup_elem(&ledger, &cpu);
	struct sl_packet *p = bpf_map_lookup_elem(&scratch, &zero);

	if (!p)
		return hand_on(ctx, XDP_PASS);
	return leave(ctx, mine, p, cpu, p->verdict);
}
