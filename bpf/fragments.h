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

/* Not on the stack, of which little is left here. */
struct fragment_room {
	struct sl_fragment_key id;
	struct sl_fragment note;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fragment_room);
} fragment_room SEC(".maps");

static __noinline int hit(struct sl_flow *f, const struct sl_packet *p, __u32 cpu, __u64 now)
{
	return on_hit(f, p, cpu, now);
}

/* It has no transport header: TCP's sequence is not touched, and moves on with the next whole segment. */
static __always_inline int later_hit(struct sl_flow *f, struct sl_packet *p, __u32 dir, __u32 cpu, __u64 now)
{
	__u32 proto = p->proto, own_dir = p->dir, payload = p->payload;
	int verdict;

	p->proto = IPPROTO_UDP;
	p->dir = dir & 1;
	if (proto == IPPROTO_TCP)
		p->payload = 0;
	verdict = hit(f, p, cpu, now);
	p->proto = proto;
	p->dir = own_dir;
	p->payload = payload;
	return verdict;
}

/* `key`: on the stack or in a map. What a function that is not static is given is no key before Linux 6.2. */
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
__noinline int on_fragment(struct sl_packet *p, const struct sl_key6 *key, __u32 cpu, __u64 now)
{
	__u32 zero = 0;
	struct fragment_room *room = bpf_map_lookup_elem(&fragment_room, &zero);
	struct sl_fragment *found;
	struct sl_flow *f;
	int verdict;

	if (!p || !key || !room)
		return SL_V_PASS_FRAGMENT;
	mapped_ends(p, key, (struct mapped *)room->id.src, (struct mapped *)room->id.dst);
	room->id.id = p->fragment;
	room->id.word = p->proto | (cfg_vlan_in_key ? p->vlans : 0);
	if (p->flags & SL_P_FIRST) {
		__builtin_memcpy(room->note.key, key, sizeof(room->note.key));
		room->note.dir = p->dir;
		f = flow_of(room->note.key, p->family);
		if (!f)
			return SL_V_PASS_FRAGMENT;
		if (cfg_trace)
			note_owner(OWNER(f->dir[0].state));
		verdict = hit(f, p, cpu, now);
		if (verdict == SL_V_SHUNTED)
			bpf_map_update_elem(&fragments, &room->id, &room->note, BPF_ANY);
		return verdict;
	}
	found = p->flags & SL_P_LATER ? bpf_map_lookup_elem(&fragments, &room->id) : 0;
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
