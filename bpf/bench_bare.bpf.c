// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Floors that the gate is measured against (bench/gate.ts), and front ends that vary the packet between the runs of one
 * test run: what they leave in the packet is there in the next run.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct key {
	__u32 word[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, struct key);
	__type(value, __u64);
} table SEC(".maps");

/* What a front end goes on to. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

/* Source ports of `spread`: first, and how many less one; a power of two less one. */
const volatile __u32 cfg_first_port = 1024;
const volatile __u32 cfg_port_mask = 1023;

/* Source addresses of `sources`, from 10.0.0.0 on: how many less one; a power of two less one. */
const volatile __u32 cfg_source_mask = 0;

__u32 random_state;

/* IPv4 without options. Apart, not in one packed struct: those are written byte by byte, which the reader would wait for. */
struct headers {
	struct iphdr *ip;
	struct tcphdr *tcp;
};

static __always_inline bool headers(struct xdp_md *ctx, struct headers *h)
{
	h->ip = (void *)(long)ctx->data + sizeof(struct ethhdr);
	h->tcp = (void *)(h->ip + 1);
	return (void *)(h->tcp + 1) <= (void *)(long)ctx->data_end;
}

SEC("socket")
int bench_keep(struct __sk_buff *ctx)
{
	return 0x7fffffff;
}

SEC("xdp.frags")
int bench_drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

SEC("xdp.frags")
int bench_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* One look-up of the 16 bytes from the source address on, and nothing else. */
SEC("xdp.frags")
int bench_lookup(struct xdp_md *ctx)
{
	struct headers h;
	struct key key;

	if (!headers(ctx, &h))
		return XDP_ABORTED;
	__builtin_memcpy(&key, &h.ip->saddr, sizeof(key));
	return bpf_map_lookup_elem(&table, &key) ? XDP_DROP : XDP_PASS;
}

/* The next segment of the same connection. */
SEC("xdp.frags")
int bench_advance(struct xdp_md *ctx)
{
	struct headers h;

	if (!headers(ctx, &h))
		return XDP_ABORTED;
	h.tcp->seq = bpf_htonl(bpf_ntohl(h.tcp->seq) + bpf_ntohs(h.ip->tot_len) - sizeof(*h.ip) - sizeof(*h.tcp));
	bpf_tail_call(ctx, &next, 0);
	return XDP_ABORTED;
}

/* Another number each time, all of them alike often. */
static __always_inline __u32 in_turn(void)
{
	/* An atomic add begins when what was before is done: no look-up of one run goes on beside that of the next. */
	__u32 turn = __sync_fetch_and_add(&random_state, 0x9e3779b9);

	turn = (turn ^ turn >> 15) * 0x85ebca6b;
	return turn ^ turn >> 13;
}

/* A packet of another connection each time, one after the other. */
SEC("xdp.frags")
int bench_spread(struct xdp_md *ctx)
{
	__u32 turn;
	struct headers h;

	if (!headers(ctx, &h))
		return XDP_ABORTED;
	turn = in_turn();
	h.tcp->source = bpf_htons(cfg_first_port + (turn & cfg_port_mask));
	bpf_tail_call(ctx, &next, 0);
	return XDP_ABORTED;
}

/* A packet of another source each time. */
SEC("xdp.frags")
int bench_sources(struct xdp_md *ctx)
{
	struct headers h;

	if (!headers(ctx, &h))
		return XDP_ABORTED;
	h.ip->saddr = bpf_htonl(0x0a000000 + (in_turn() & cfg_source_mask));
	bpf_tail_call(ctx, &next, 0);
	return XDP_ABORTED;
}
