/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Address pairs and prefixes: what no flow entry holds back, they may. Exceptions win over them. */
#ifndef SLUICE_PAIRS_H
#define SLUICE_PAIRS_H

#include <bpf/bpf_endian.h>
#include "address.h"
#include "clock.h"
#include "maps.h"
#include "notes.h"

/* The addresses of a packet, mapped, low and high as in the keys, and what is needed to count it. */
struct ends {
	struct sl_exception_key low;
	struct sl_exception_key high;
	__u32 ip_len;
	__u32 vlans;
	__u32 dir; /* 0: from low to high */
	__u64 now;
};

static __always_inline bool pair_alive(const struct sl_pair *p, __u64 now)
{
	__u32 owner = p->owner;

	if (p->limit && now > (__u64)p->limit * 1000000000)
		return false;
	if (owner) {
		__u64 *deadline = bpf_map_lookup_elem(&leases, &owner);

		return deadline && READ_ONCE(*deadline) >= now;
	}
	return p->limit != 0;
}

static __always_inline void count_pair(struct sl_pair *p, __u32 dir, __u32 ip_len, __u64 now)
{
	struct sl_pair_count *c = dir ? &p->count[1] : &p->count[0];

	__sync_fetch_and_add(&c->pkts, 1);
	__sync_fetch_and_add(&c->ip_bytes, ip_len);
	WRITE_ONCE(c->last, now);
	if (cfg_trace)
		note_owner(p->owner);
}

static __always_inline bool in_prefix(const __u8 *addr, const __u8 *net, __u32 len)
{
	const __u32 *a = (const __u32 *)addr;
	const __u32 *n = (const __u32 *)net;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u32 bits = len > (__u32)i * 32 ? len - i * 32 : 0;
		__u32 mask = bits >= 32 ? 0xffffffff : bits ? bpf_htonl(0xffffffffU << (32 - bits)) : 0;

		if ((a[i] ^ n[i]) & mask)
			return false;
	}
	return true;
}

static __always_inline bool is_exception(const struct ends *e)
{
	return bpf_map_lookup_elem(&exceptions, &e->low) || bpf_map_lookup_elem(&exceptions, &e->high);
}

struct search {
	const struct ends *e;
	__u32 verdict;
};

static long one_prefix(__u32 i, void *data)
{
	struct search *s = data;
	const struct ends *e = s->e;
	struct sl_prefix_pair *p = bpf_map_lookup_elem(&prefixes, &i);
	__u32 dir;

	if (!p)
		return 1;
	if (!p->used || !pair_alive(&p->pair, e->now))
		return 0;
	if (in_prefix(e->low.addr, p->a, p->a_len) && in_prefix(e->high.addr, p->b, p->b_len))
		dir = e->dir;
	else if (in_prefix(e->low.addr, p->b, p->b_len) && in_prefix(e->high.addr, p->a, p->a_len))
		dir = !e->dir;
	else
		return 0;
	/* Exceptions win: then it is not counted either. */
	s->verdict = is_exception(e) ? SL_V_PASS_EXCEPTION : SL_V_SHUNTED_PAIR;
	if (s->verdict == SL_V_SHUNTED_PAIR)
		count_pair(&p->pair, dir, e->ip_len, e->now);
	return 1;
}

static __always_inline void fill_ends(struct ends *e, const struct sl_packet *p, const struct sl_key6 *key, __u64 now)
{
	const struct sl_key4 *key4 = (const struct sl_key4 *)key;

	e->low.prefix_len = 128;
	e->high.prefix_len = 128;
	e->ip_len = p->ip_len;
	e->vlans = cfg_vlan_in_key ? p->vlans : 0;
	e->dir = p->dir;
	e->now = now;
	if (p->family == 4 && !(cfg_tunnels && p->flags & SL_P_WIDE)) {
		map4((struct mapped *)e->low.addr, key4->low_addr);
		map4((struct mapped *)e->high.addr, key4->high_addr);
	} else {
		__builtin_memcpy(e->low.addr, key->low_addr, 16);
		__builtin_memcpy(e->high.addr, key->high_addr, 16);
	}
}

/*
 * A packet that no flow entry holds back: does a pair or a prefix? Returns `verdict` if not. Not static: the verifier looks
 * at it once, not once for each way that leads here.
 */
__noinline int search_pairs(const struct sl_packet *p, const struct sl_key6 *key, __u64 now, int verdict)
{
	struct ends e = {};

	if (!p || !key)
		return verdict;
	fill_ends(&e, p, key, now);
	if (cfg_pairs) {
		struct sl_pair_key at = {};
		struct sl_pair *found;

		__builtin_memcpy(at.low_addr, e.low.addr, 16);
		__builtin_memcpy(at.high_addr, e.high.addr, 16);
		at.vlans = e.vlans;
		found = bpf_map_lookup_elem(&pairs, &at);
		if (found && pair_alive(found, now)) {
			if (is_exception(&e))
				return SL_V_PASS_EXCEPTION;
			count_pair(found, e.dir, e.ip_len, now);
			return SL_V_SHUNTED_PAIR;
		}
	}
	if (cfg_prefixes) {
		struct search s = { .e = &e, .verdict = verdict };

		bpf_loop(cfg_prefixes, one_prefix, &s, 0);
		return s.verdict;
	}
	return verdict;
}

/* `key`: of IPv4 in the form of IPv4. */
static __always_inline int on_pairs(const struct sl_packet *p, const struct sl_key6 *key, struct sl_ledger *mine,
				    int verdict)
{
	if ((!cfg_pairs && !cfg_prefixes) || !p->family)
		return verdict;
	return search_pairs(p, key, clock(mine), verdict);
}

#endif
