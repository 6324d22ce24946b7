// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * A bad link for the lab: drops, duplicates and holds back frames as they enter the hub, before they are flooded,
 * so that the endpoints and both taps see the same. What happens to the n-th frame of a direction follows from
 * (seed, n) alone.
 *
 * tc cannot hold a frame back by itself. A held frame leaves through a side port whose token bucket has just been
 * emptied by a filler copy sent ahead of it: the frame waits for its tokens, the others overtake it, and lab_return
 * at the far end of the side port puts it back. The filler never leaves the side link.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* skb->mark tells what has been done already; it does not survive into another namespace. */
#define MARK_DONE 0x51c0001
#define MARK_HELD 0x51c0002
#define MARK_FILLER 0x51c0003

const volatile __u32 cfg_seed = 1;
/* Shares in frames per million; their sum is at most a million. */
const volatile __u32 cfg_drop = 0;
const volatile __u32 cfg_duplicate = 0;
const volatile __u32 cfg_reorder = 0;
/* The side port, and the port that held frames return to. */
const volatile __u32 cfg_side = 0;
const volatile __u32 cfg_origin = 0;

enum { SEEN, DROPPED, DUPLICATED, HELD, RETURNED, FILLERS, FAILED, COUNTS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} impair_counts SEC(".maps");

static __always_inline __u64 count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&impair_counts, &which);

	return value ? __sync_fetch_and_add(value, 1) : 0;
}

/* The finalizer of MurmurHash3 (public domain). */
static __always_inline __u32 mix(__u32 x)
{
	x ^= x >> 16;
	x *= 0x85ebca6b;
	x ^= x >> 13;
	x *= 0xc2b2ae35;
	return x ^ (x >> 16);
}

SEC("tc")
int lab_impair(struct __sk_buff *skb)
{
	__u32 draw;

	if (skb->mark == MARK_DONE) {
		skb->mark = 0;
		return TC_ACT_UNSPEC;
	}
	draw = mix(mix(cfg_seed) + (__u32)count(SEEN)) % 1000000;
	if (draw < cfg_drop) {
		count(DROPPED);
		return TC_ACT_SHOT;
	}
	draw -= cfg_drop;
	if (draw < cfg_duplicate) {
		skb->mark = MARK_DONE;
		count(bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS) ? FAILED : DUPLICATED);
		skb->mark = 0;
		return TC_ACT_UNSPEC;
	}
	draw -= cfg_duplicate;
	if (draw < cfg_reorder) {
		skb->mark = MARK_FILLER;
		if (bpf_clone_redirect(skb, cfg_side, 0)) {
			count(FAILED);
			skb->mark = 0;
			return TC_ACT_UNSPEC;
		}
		skb->mark = MARK_HELD;
		count(HELD);
		return bpf_redirect(cfg_side, 0);
	}
	return TC_ACT_UNSPEC;
}

SEC("tc")
int lab_return(struct __sk_buff *skb)
{
	if (skb->mark != MARK_HELD) {
		count(FILLERS);
		return TC_ACT_SHOT;
	}
	count(RETURNED);
	skb->mark = MARK_DONE;
	return bpf_redirect(cfg_origin, BPF_F_INGRESS);
}
