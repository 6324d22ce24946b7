/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Decisions on packets that somebody asked about, into a bounded ring. */
#ifndef SLUICE_TRACE_H
#define SLUICE_TRACE_H

#include "address.h"
#include "common.h"
#include "maps.h"

static __always_inline bool same_end(const struct sl_trace_filter *f, const struct mapped *from, __be16 port, bool ports,
				     bool as_a)
{
	const struct mapped *addr = (const struct mapped *)(as_a ? f->a : f->b);
	__be16 wanted = as_a ? f->port_a : f->port_b;

	if (f->parts & (as_a ? SL_TRACE_A : SL_TRACE_B) && !same_mapped(from, addr))
		return false;
	return !ports || !(f->parts & (as_a ? SL_TRACE_PORT_A : SL_TRACE_PORT_B)) || port == wanted;
}

static __always_inline bool matches(const struct sl_trace_filter *f, const struct sl_packet *p)
{
	bool ports = p->parsed == SL_V_SHUNTED || p->flags & SL_P_FIRST;
	struct mapped src, dst;

	if (!f->parts)
		return true;
	if (!p->family || (f->parts & SL_TRACE_PROTO && p->proto != f->proto))
		return false;
	mapped_ends(p, p->key, &src, &dst);
	return (same_end(f, &src, p->sport, ports, true) && same_end(f, &dst, p->dport, ports, false)) ||
	       (same_end(f, &src, p->sport, ports, false) && same_end(f, &dst, p->dport, ports, true));
}

static __noinline int fill(struct sl_trace *t, const struct sl_packet *p, __u32 verdict, __u32 cpu)
{
	t->time = bpf_ktime_get_ns();
	t->verdict = verdict;
	t->cpu = cpu;
	t->packet = *p;
	return 0;
}

/* Not static: the verifier looks at it once, not once for each way that leads here. */
__noinline int tell(const struct sl_packet *p, __u32 verdict, __u32 cpu)
{
	__u32 zero = 0;
	struct sl_trace_filter *f = bpf_map_lookup_elem(&trace_filter, &zero);
	struct sl_trace *t;

	if (!p || !f || !matches(f, p))
		return 0;
	t = bpf_ringbuf_reserve(&trace, sizeof(*t), 0);
	if (!t) {
		__sync_fetch_and_add(&f->lost, 1);
		return 0;
	}
	fill(t, p, verdict, cpu);
	bpf_ringbuf_submit(t, 0);
	return 0;
}

#endif
