/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A gate that stands alone: flows without an entry are watched in a table of their own, and those that have sent enough, or
 * TLS whose handshake is over, get one that is shunted from the next packet on (docs/adr/0035-stand-alone-gate.md). What the
 * table forgets passes as before: a flood of new flows takes places here, never in the flow tables.
 */
#ifndef SLUICE_WATCH_H
#define SLUICE_WATCH_H

#if defined(SLUICE_WATCH) && !defined(SLUICE_SOCKET_FILTER)

#include <linux/in.h>
#include "address.h"
#include "clock.h"
#include "maps.h"
#include "tls.h"

const volatile __u64 cfg_watch_bytes = 0; /* IP bytes of one direction after which it is shunted; 0: never */
const volatile __u32 cfg_watch_pkts = 0;  /* packets, the same */
const volatile __u32 cfg_watch_owner = 0; /* its place in the leases: without one nothing is made */
const volatile __u32 cfg_watch_idle = 0;  /* ms */
const volatile __u32 cfg_watch_fresh = 0; /* new flows that a CPU takes in in a tenth of a second */

#define WATCH_WINDOW 100000000ULL

/* Least recently used out: a flow that is forgotten is watched anew, and passes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, struct sl_key4);
	__type(value, struct sl_watch4);
} watch4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, struct sl_key6);
	__type(value, struct sl_watch6);
} watch6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_watch_count);
} watch_count SEC(".maps");

/* Flows that somebody holds, and how often each was kept from being shunted: looked up when one is to be shunted, not per packet. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct sl_side_key);
	__type(value, __u64);
} held SEC(".maps");

/* A value that is being made, and the key of the packet: not on the stack, of which little is left here. */
struct watch_room {
	struct sl_value6 value;
	struct sl_key6 key;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct watch_room);
} watch_room SEC(".maps");

static __always_inline bool has_key4(const struct sl_packet *p)
{
	return p->family == 4 && !(cfg_tunnels && p->flags & SL_P_WIDE);
}

/*
 * Tells flows apart in the words: a place that is given to another flow while a CPU still works on it keeps its own, as the
 * words are changed by compare-and-swap.
 */
static __always_inline __u32 tag_of(const struct sl_packet *p, const struct sl_key6 *key)
{
	const __u32 *word = (const __u32 *)key;
	__u32 tag = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		tag = (tag ^ word[i]) * 0x9e3779b1U;
	if (!has_key4(p)) {
#pragma unroll
		for (int i = 4; i < 12; i++)
			tag = (tag ^ word[i]) * 0x9e3779b1U;
	}
	return tag & ~0xffU;
}

static __always_inline struct sl_watched *find_watched(const struct sl_packet *p, const struct sl_key6 *key)
{
	if (has_key4(p)) {
		struct sl_watch4 *w = bpf_map_lookup_elem(&watch4, key);

		return w ? w->dir : 0;
	}
	struct sl_watch6 *w = bpf_map_lookup_elem(&watch6, key);

	if (!w)
		return 0;
	/* As in ops.h. */
	asm volatile("" : "+r"(w));
	return w->dir;
}

/* Takes a flow in, unless too many were already: what is watched is not to be forgotten for new ones within seconds. */
static __always_inline void begin_watch(const struct sl_packet *p, struct watch_room *room, struct sl_watch_count *c,
					__u32 tag, __u64 now)
{
	struct sl_value6 *value = &room->value;
	struct sl_watched *w;

	if (now - c->window > WATCH_WINDOW) {
		c->window = now;
		c->fresh = 0;
	}
	if (c->fresh >= cfg_watch_fresh) {
		c->unwatched++;
		return;
	}
	c->fresh++;
	__builtin_memset(value, 0, sizeof(struct sl_watch6));
	w = has_key4(p) ? ((struct sl_watch4 *)value)->dir : ((struct sl_watch6 *)value)->dir;
	w[0].last = w[1].last = now >> 20;
	w[0].word = tag | (p->dir ? 0 : SL_W_FIRST);
	w[1].word = tag | (p->dir ? SL_W_FIRST : 0);
	if (!(has_key4(p) ? bpf_map_update_elem(&watch4, &room->key, value, BPF_NOEXIST) :
			    bpf_map_update_elem(&watch6, &room->key, value, BPF_NOEXIST)))
		c->begun++;
}

/* Silent for longer than an entry may be: the tuple may be another connection's by now. */
static __always_inline bool watch_is_old(const struct sl_watched *d, const struct sl_watched *o, __u64 now)
{
	__u32 units = now >> 20;

	return cfg_watch_idle && units - READ_ONCE(d->last) > cfg_watch_idle && units - READ_ONCE(o->last) > cfg_watch_idle;
}

static __always_inline void forget(const struct sl_packet *p, const struct sl_key6 *key, struct sl_watch_count *c)
{
	if (!(has_key4(p) ? bpf_map_delete_elem(&watch4, key) : bpf_map_delete_elem(&watch6, key)))
		c->left++;
}

/* An exception says never; so does the host's own address, which is one. */
static __always_inline bool watch_excepted(const struct sl_packet *p, struct watch_room *room)
{
	struct sl_exception_key *src = (struct sl_exception_key *)&room->value, *dst = src + 1;

	src->prefix_len = dst->prefix_len = 128;
	mapped_ends(p, &room->key, (struct mapped *)src->addr, (struct mapped *)dst->addr);
	return bpf_map_lookup_elem(&exceptions, src) || bpf_map_lookup_elem(&exceptions, dst);
}

/* Somebody still needs the flow: it stays watched, and is asked about with each packet until they let go. */
static __always_inline bool watch_held(const struct sl_packet *p, struct watch_room *room, struct sl_watched *w,
				       struct sl_watch_count *c)
{
	struct sl_side_key *which = (struct sl_side_key *)&room->value;
	__u64 *kept;

	__builtin_memset(which, 0, sizeof(*which));
	if (has_key4(p)) {
		which->family = 4;
		__builtin_memcpy(which->key, &room->key, sizeof(struct sl_key4));
	} else {
		which->family = 6;
		__builtin_memcpy(which->key, &room->key, sizeof(struct sl_key6));
	}
	kept = bpf_map_lookup_elem(&held, which);
	if (!kept)
		return false;
	/* Once for each time that it is watched. */
	if (!(__sync_fetch_and_or(&w->word, SL_W_HELD) & SL_W_HELD)) {
		__sync_fetch_and_add(kept, 1);
		c->held++;
	}
	return true;
}

static __always_inline void fill_dir(struct sl_dir *d, const struct sl_watched *w, const struct sl_packet *p, __u64 now,
				     __u32 part)
{
	d->state = SL_SHUNT | cfg_watch_owner << 16;
	/* Nothing with payload came from there: the first packet tells where the sequence stands. */
	d->cpu = SL_MADE | (w->pkts ? 0 : SL_LEARN);
	d->last = now;
	d->idle_ms = cfg_watch_idle;
	d->sync_ack = part;
	if (p->proto == IPPROTO_TCP) {
		d->seq = w->seq;
		d->ack = w->ack;
		d->sync_seq = w->seq;
	}
}

/* The flow is shunted from the next packet on. Not static: the verifier looks at it once. */
__noinline int make_entry(const struct sl_packet *p, struct sl_watch_count *c, __u64 now, __u32 why)
{
	__u32 zero = 0, owner = cfg_watch_owner;
	struct watch_room *room = bpf_map_lookup_elem(&watch_room, &zero);
	__u64 *deadline = bpf_map_lookup_elem(&leases, &owner);
	const struct sl_key6 *key;
	struct sl_value6 *value;
	struct sl_watched *w;
	struct sl_flow *f;
	long failed;

	/* Nobody keeps the books now. */
	if (!p || !c || !room || !deadline || READ_ONCE(*deadline) < now)
		return 0;
	key = &room->key;
	value = &room->value;
	w = find_watched(p, key);
	if (!w)
		return 0;
	if (watch_excepted(p, room)) {
		__sync_fetch_and_or(&w[0].word, SL_W_EXCEPT);
		__sync_fetch_and_or(&w[1].word, SL_W_EXCEPT);
		c->excepted++;
		return 0;
	}
	if (watch_held(p, room, w, c))
		return 0;
	__builtin_memset(value, 0, sizeof(*value));
	f = has_key4(p) ? &((struct sl_value4 *)value)->flow : &value->flow;
	fill_dir(&f->dir[0], &w[0], p, now, now);
	fill_dir(&f->dir[1], &w[1], p, now, now >> 32);
	f->cookie = why | (w[1].word & (why == SL_MADE_TLS ? SL_W_CLIENT : SL_W_FIRST) ? SL_MADE_DIR1 : 0);
	failed = has_key4(p) ? bpf_map_update_elem(&flows4, key, value, BPF_NOEXIST) :
			       bpf_map_update_elem(&flows6, key, value, BPF_NOEXIST);
	if (failed)
		c->full++;
	else
		c->made[why & 3]++;
	/* What it was known by does not hold for what comes after the shunt; a full table is asked again after as much again. */
	forget(p, key, c);
	return 0;
}

/* Looks at a packet that no entry holds back. Not static: the verifier looks at it once. */
__noinline int watch_packet(frame_ctx *ctx, const struct sl_packet *p, const struct sl_key6 *given, __u64 now)
{
	__u32 zero = 0, tag, why = 0;
	struct sl_watch_count *c = bpf_map_lookup_elem(&watch_count, &zero);
	struct watch_room *room = bpf_map_lookup_elem(&watch_room, &zero);
	struct sl_watched *w, *d, *o;
	const struct sl_key6 *key;

	if (!p || !given || !c || !room)
		return 0;
	room->key = *given;
	key = &room->key;
	w = find_watched(p, key);
	/* A beginning or an end: what was seen of the connection holds no longer. */
	if (p->proto == IPPROTO_TCP && p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST)) {
		if (w)
			forget(p, key, c);
		return 0;
	}
	tag = tag_of(p, key);
	if (w && unlikely(watch_is_old(p->dir ? &w[1] : &w[0], p->dir ? &w[0] : &w[1], now))) {
		forget(p, key, c);
		w = 0;
	}
	if (!w) {
		begin_watch(p, room, c, tag, now);
		w = find_watched(p, key);
		if (!w)
			return 0;
	}
	d = p->dir ? &w[1] : &w[0];
	o = p->dir ? &w[0] : &w[1];
	if ((READ_ONCE(d->word) & ~0xffU) != tag || d->word & SL_W_EXCEPT)
		return 0;
	if (p->proto == IPPROTO_TCP) {
		__u32 end = p->seq + p->payload;

		if (!d->pkts || (__s32)(end - d->seq) > 0)
			d->seq = end;
		if (!d->pkts || (__s32)(p->ack - d->ack) > 0)
			d->ack = p->ack;
		if (cfg_watch & 2 && follow_tls(ctx, p, d, o, tag))
			why = SL_MADE_TLS;
	}
	d->pkts++;
	d->ip_bytes += p->ip_len;
	d->last = now >> 20;
	if (why)
		;
	else if (cfg_watch_bytes && d->ip_bytes >= cfg_watch_bytes)
		why = SL_MADE_BYTES;
	else if (cfg_watch_pkts && d->pkts >= cfg_watch_pkts)
		why = SL_MADE_PKTS;
	if (why)
		make_entry(p, c, now, why);
	return 0;
}

/* Whatever was decided, this packet goes its way. Pure acknowledgements tell nothing, and cost nothing. */
static __always_inline int watch(frame_ctx *ctx, const struct sl_packet *p, const struct sl_key6 *key,
				 struct sl_ledger *mine, int verdict)
{
	if (!cfg_watch || verdict != SL_V_PASS_NO_ENTRY)
		return verdict;
	if (p->proto != IPPROTO_TCP || p->payload || p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))
		watch_packet(ctx, p, key, clock(mine));
	return verdict;
}

#else
#define watch(ctx, p, key, mine, verdict) (verdict)
#endif

#endif
