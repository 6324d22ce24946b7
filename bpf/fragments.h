/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Fragments that follow their flow: the first one of a shunted flow, which has the ports, leaves a note by which the others
 * are known. Inexact: what comes before the first one passes, notes may be displaced, and a datagram counts as its fragments.
 */
#ifndef SLUICE_FRAGMENTS_H
#define SLUICE_FRAGMENTS_H

#include <linux/in.h>
#include "address.h"
#include "books.h"
#include "clock.h"
#include "notes.h"

static __noinline int later_hit(struct sl_flow *f, const struct sl_packet *p, __u32 dir, __u32 cpu, __u64 now)
{
	struct sl_packet q = *p;

	/* It has no transport header: TCP's sequence is not touched, and moves on with the next whole segment. */
	q.proto = IPPROTO_UDP;
	q.dir = dir & 1;
	if (p->proto == IPPROTO_TCP)
		q.payload = 0;
	return on_hit(f, &q, cpu, now);
}

static __noinline int first_hit(struct sl_flow *f, const struct sl_packet *p, __u32 cpu, __u64 now)
{
	return on_hit(f, p, cpu, now);
}

static __always_inline struct sl_flow *flow_of(const void *key, __u32 family)
{
	if (family == 4) {
		struct sl_value4 *v = bpf_map_lookup_elem(&flows4, key);

		return v ? &v->flow : 0;
	}
	struct sl_value6 *v = bpf_map_lookup_elem(&flows6, key);

	if (!v)
		return 0;
	/* As in ops.h. */
	asm volatile("" : "+r"(v));
	return &v->flow;
}

/* `key` has room for either family, and ports if this is the first fragment. */
__noinline int on_fragment(const struct sl_packet *p, const struct sl_key6 *key, __u32 cpu, __u64 now)
{
	struct sl_fragment_key id = {};
	struct sl_fragment note = {};
	struct sl_fragment *found;
	struct sl_flow *f;
	int verdict;

	if (!p || !key)
		return SL_V_PASS_FRAGMENT;
	mapped_ends(p, key, (struct mapped *)id.src, (struct mapped *)id.dst);
	id.id = p->fragment;
	id.word = p->proto | (cfg_vlan_in_key ? p->vlans : 0);
	if (p->flags & SL_P_FIRST) {
		f = flow_of(key, p->family);
		if (!f)
			return SL_V_PASS_FRAGMENT;
		if (cfg_trace)
			note_owner(OWNER(f->dir[0].state));
		verdict = first_hit(f, p, cpu, now);
		if (verdict == SL_V_SHUNTED) {
			__builtin_memcpy(note.key, key, sizeof(note.key));
			note.dir = p->dir;
			bpf_map_update_elem(&fragments, &id, &note, BPF_ANY);
		}
		return verdict;
	}
	found = p->flags & SL_P_LATER ? bpf_map_lookup_elem(&fragments, &id) : 0;
	if (!found)
		return SL_V_PASS_FRAGMENT;
	f = flow_of(found->key, p->family);
	if (!f)
		return SL_V_PASS_FRAGMENT;
	if (cfg_trace)
		note_owner(OWNER(f->dir[0].state));
	return later_hit(f, p, found->dir, cpu, now);
}

#endif
