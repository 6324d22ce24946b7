// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What the rules do. The generated programs find out which rules match and note their rows; this one counts, drops,
 * limits and samples, in the order of priority. It runs for packets that match something only.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "gate.h"
#include "common.h"
#include "rule-slots.h"
#include "rules.h"

/* What is left of a packet's time when CPUs are at the same bucket: then it counts as over the limit. */
#define BUCKET_TRIES 16
/* How far the clocks that two CPUs have read for their packets may be apart: 1 s. */
#define BUCKET_SKEW (1000000000ULL * SL_RULE_TIME)

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_rule_matches);
} rule_matches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_rule);
} rule_rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_rule_count);
} rule_counts SEC(".maps");

/* Buckets of single sources and targets. A full table forgets the one longest unused: it starts full again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct sl_bucket_key);
	__type(value, __u64);
} rule_buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} rule_samples SEC(".maps");

/* Samples that found no room, per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} rule_samples_lost SEC(".maps");

/* So that its layout is in the object. */
const struct sl_sample *sl_sample_layout __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline void mask(__u8 *addr, __u32 bits)
{
	__be32 *words = (__be32 *)addr;

#pragma unroll
	for (__u32 i = 0; i < 4; i++) {
		__u32 left = bits > 32 * i ? bits - 32 * i : 0;

		if (left < 32)
			words[i] &= left ? bpf_htonl(~0U << (32 - left)) : 0;
	}
}

/* The bucket of the packet: of the rule, or of the prefix that its source or target is in. 0: no room for another one. */
static __always_inline __u64 *bucket_of(struct sl_rule *r, __u32 row, const struct sl_packet *p)
{
	struct sl_bucket_key k = { .rule = row };
	bool high;
	__u64 *b, start = 0;

	if (r->per == SL_PER_RULE || !p->family)
		return &r->bucket;
	/* The key has both addresses by size; dir tells which of them sent this packet. */
	high = (r->per == SL_PER_TARGET) != !!p->dir;
	if (p->family == 4) {
		const struct sl_key4 *key = (const struct sl_key4 *)p->key;

		k.addr[10] = k.addr[11] = 0xff;
		*(__be32 *)(k.addr + 12) = high ? key->high_addr : key->low_addr;
		mask(k.addr, 96 + (r->prefix4 & 63));
	} else {
		const struct sl_key6 *key = (const struct sl_key6 *)p->key;

		__builtin_memcpy(k.addr, high ? key->high_addr : key->low_addr, 16);
		mask(k.addr, r->prefix6 & 255);
	}
	b = bpf_map_lookup_elem(&rule_buckets, &k);
	if (b)
		return b;
	bpf_map_update_elem(&rule_buckets, &k, &start, BPF_NOEXIST);
	return bpf_map_lookup_elem(&rule_buckets, &k);
}

/*
 * One number a bucket: the time up to which what was let through is paid for (GCRA, ITU-T I.371). Any number of CPUs
 * move it on by compare-and-swap, so none lets through what another one has used.
 */
static __always_inline bool over(__u64 *bucket, const struct sl_rule *r, __u32 bytes, __u64 now)
{
	__u64 cost = r->per_packet + r->per_byte * bytes;

	for (int i = 0; i < BUCKET_TRIES; i++) {
		__u64 paid = READ_ONCE(*bucket);
		/*
		 * Never more than the burst ahead, and what another CPU's clock is: this one may have been read before. What
		 * is more lies behind, or is from before the number wrapped.
		 */
		__u64 ahead = paid - now <= r->burst + BUCKET_SKEW ? paid - now : 0;

		if (ahead + cost > r->burst)
			return true;
		if (__sync_val_compare_and_swap(bucket, paid, now + ahead + cost) == paid)
			return false;
	}
	return true;
}

static __always_inline int sample(struct xdp_md *ctx, struct sl_rule *r, __u32 frame_len)
{
	__u32 zero = 0, len = frame_len < r->sample_size ? frame_len : r->sample_size;
	struct sl_sample head = {
		.rule = r->id,
		.frame_len = frame_len,
		.captured = len,
		.ifindex = ctx->ingress_ifindex,
		.time = bpf_ktime_get_coarse_ns(),
	};
	struct bpf_dynptr room;
	__u64 *lost;
	char chunk[64];

	if (bpf_ringbuf_reserve_dynptr(&rule_samples, sizeof(head) + len, 0, &room)) {
		bpf_ringbuf_discard_dynptr(&room, 0);
		lost = bpf_map_lookup_elem(&rule_samples_lost, &zero);
		if (lost)
			(*lost)++;
		return 0;
	}
	bpf_dynptr_write(&room, 0, &head, sizeof(head), 0);
	for (__u32 at = 0; at < 2048; at += sizeof(chunk)) {
		__u32 left = len - at;

		if (at >= len)
			break;
		if (left > sizeof(chunk))
			left = sizeof(chunk);
		left = one_to(sizeof(chunk), left);
		if (bpf_xdp_load_bytes(ctx, at, chunk, left))
			break;
		bpf_dynptr_write(&room, sizeof(head) + at, chunk, left, 0);
	}
	bpf_ringbuf_submit_dynptr(&room, 0);
	return 0;
}

/* Whether it is dropped: SL_V_RULE_DROPPED, SL_V_RATE_LIMITED, or 0. */
static __always_inline __u32 act(struct xdp_md *ctx, struct sl_rule *r, __u32 row, const struct sl_packet *p, __u64 now)
{
	__u64 *bucket;

	switch (r->action) {
	case SL_RULE_DROP:
		return SL_V_RULE_DROPPED;
	case SL_RULE_LIMIT:
		bucket = bucket_of(r, row, p);
		return bucket && over(bucket, r, p->frame_len, now * SL_RULE_TIME) ? SL_V_RATE_LIMITED : 0;
	case SL_RULE_SAMPLE:
		if (r->sample < 2 || bpf_get_prandom_u32() % r->sample == 0)
			sample(ctx, r, p->frame_len);
		return 0;
	}
	return 0;
}

/* A packet on its way through the rules that it matches. */
struct walk {
	struct xdp_md *ctx;
	struct sl_packet *p;
	struct sl_rule_matches *m;
	__u64 now;
	__s64 done; /* rank of the last rule that was looked at */
	__s64 best; /* the lowest rank above it, and its row */
	__u32 row;
	__u32 count;
	__u32 verdict;
};

/* Lower comes first; rows tell rules of one order apart. */
static long rank(__u32 i, void *data)
{
	struct walk *w = data;
	struct sl_rule *r;
	__u32 row;
	__s64 it;

	if (i >= SL_RULE_MATCHES)
		return 1;
	row = w->m->rule[i];
	r = bpf_map_lookup_elem(&rule_rows, &row);
	if (!r)
		return 0;
	it = (__s64)r->order << 20 | (row & 0xfffff);
	if (it > w->done && (w->best < 0 || it < w->best)) {
		w->best = it;
		w->row = row;
	}
	return 0;
}

/* The next rule in the order of priority; each once, however often it was noted. */
static long next_rule(__u32 i, void *data)
{
	struct walk *w = data;
	struct sl_rule *r;
	struct sl_rule_count *c;
	__u32 row;

	w->best = -1;
	bpf_loop(w->count, rank, w, 0);
	if (w->best < 0)
		return 1;
	w->done = w->best;
	row = w->row;
	r = bpf_map_lookup_elem(&rule_rows, &row);
	c = bpf_map_lookup_elem(&rule_counts, &row);
	if (!r || !c || READ_ONCE(r->off) || (r->until && w->now >= r->until * 1000000000ULL))
		return 0;
	c->matched_pkts++;
	c->matched_bytes += w->p->frame_len;
	/* What is dropped is dropped once, by the first; the others only say that they match. */
	if (w->verdict)
		return 0;
	w->verdict = act(w->ctx, r, row, w->p, w->now);
	if (w->verdict) {
		c->dropped_pkts++;
		c->dropped_bytes += w->p->frame_len;
		w->p->rule = r->id;
	}
	return 0;
}

SEC("xdp.frags")
int sluice_rules_act(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct walk w = { .ctx = ctx, .now = bpf_ktime_get_coarse_ns(), .done = -1 };

	w.p = bpf_map_lookup_elem(&scratch, &zero);
	w.m = bpf_map_lookup_elem(&rule_matches, &zero);
	if (w.p && w.m) {
		w.count = w.m->count;
		w.m->count = 0;
		if (w.count > SL_RULE_MATCHES) {
			w.count = SL_RULE_MATCHES;
			w.m->full++;
		}
		bpf_loop(w.count, next_rule, &w, 0);
		if (w.verdict) {
			w.p->verdict = w.verdict;
			bpf_tail_call_static(ctx, &rules, SL_RULES_EXIT);
		}
	}
	bpf_tail_call_static(ctx, &rules, SL_RULES_SHUNT);
	return XDP_PASS;
}
