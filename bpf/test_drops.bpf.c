// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * For the slots of the gate that are called in place of its verdicts, once for each kind of gate. XDP_DROP: a witness of when
 * the last packet of each flow and direction was dropped, and what the kernel's coarse clock said then. XDP_PASS: now and
 * then a long way from the verdict to whoever receives the packet.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Bytes in front of the frame in a tunnel; 0: there is none. */
const volatile __u32 cfg_tunnel = 0;

/* IPv4 addresses are in the first four bytes. */
struct flow {
	__u8 source[16];
	__u8 destination[16];
	__be16 source_port;
	__be16 destination_port;
	__u32 protocol;
};

struct drop {
	__u64 count;
	__u64 ns;     /* CLOCK_MONOTONIC */
	__u64 coarse; /* the same by CLOCK_MONOTONIC_COARSE */
	__u64 behind; /* the most that this clock was behind as a packet was dropped, ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow);
	__type(value, struct drop);
} drops SEC(".maps");

static __always_inline void note_drop(void *at, void *end, __u64 packets)
{
	struct ethhdr *eth = at;
	struct flow key = {};
	struct drop first = {};
	struct drop *drop;
	__be16 *ports;
	__be16 type;

	if ((void *)(eth + 1) > end)
		return;
	type = eth->h_proto;
	at = eth + 1;
	for (int i = 0; i < 2; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if (at + 4 > end)
			return;
		type = *(__be16 *)(at + 2);
		at += 4;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = at;

		if ((void *)(ip + 1) > end)
			return;
		__builtin_memcpy(key.source, &ip->saddr, 4);
		__builtin_memcpy(key.destination, &ip->daddr, 4);
		key.protocol = ip->protocol;
		at += (ip->ihl & 15) * 4;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip6 = at;

		if ((void *)(ip6 + 1) > end)
			return;
		__builtin_memcpy(key.source, &ip6->saddr, 16);
		__builtin_memcpy(key.destination, &ip6->daddr, 16);
		key.protocol = ip6->nexthdr;
		at = ip6 + 1;
	} else {
		return;
	}
	if (key.protocol == IPPROTO_TCP || key.protocol == IPPROTO_UDP) {
		ports = at;
		if ((void *)(ports + 2) > end)
			return;
		key.source_port = ports[0];
		key.destination_port = ports[1];
	}
	drop = bpf_map_lookup_elem(&drops, &key);
	if (!drop) {
		bpf_map_update_elem(&drops, &key, &first, BPF_NOEXIST);
		drop = bpf_map_lookup_elem(&drops, &key);
		if (!drop)
			return;
	}
	__sync_fetch_and_add(&drop->count, packets);
	drop->ns = bpf_ktime_get_ns();
	drop->coarse = bpf_ktime_get_coarse_ns();
	if (drop->ns - drop->coarse > drop->behind)
		drop->behind = drop->ns - drop->coarse;
}

SEC("xdp.frags")
int test_drops(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	/* In a tunnel it is the last one of two flows, and counts as one packet. */
	note_drop(data, end, cfg_tunnel ? 0 : 1);
	if (cfg_tunnel)
		note_drop(data + cfg_tunnel, end, 1);
	return XDP_DROP;
}

/* Longer than the headers that are looked at; in a map, where the verifier lets offsets vary. */
struct beginning {
	__u8 bytes[320];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct beginning);
} beginnings SEC(".maps");

SEC("socket")
int test_filtered(struct __sk_buff *ctx)
{
	__u32 zero = 0, n = ctx->len;
	struct beginning *b = bpf_map_lookup_elem(&beginnings, &zero);

	if (!b)
		return 0;
	if (n > 192)
		n = 192;
	asm volatile("" : "+r"(n));
	if (n == 0 || n > 192 || bpf_skb_load_bytes(ctx, 0, b->bytes, n))
		return 0;
	note_drop(b->bytes, b->bytes + n, cfg_tunnel ? 0 : 1);
	if (cfg_tunnel && cfg_tunnel < 64)
		note_drop(b->bytes + cfg_tunnel, b->bytes + n, 1);
	return 0;
}

static long spin(__u32 i, void *until)
{
	return bpf_ktime_get_ns() >= *(__u64 *)until;
}

/* One packet in 24, and those of the same batch, take a millisecond longer. */
static __always_inline void linger(void)
{
	__u64 until = bpf_ktime_get_ns() + 1000000;

	if (bpf_get_prandom_u32() % 24 == 0)
		bpf_loop(1 << 20, spin, &until, 0);
}


SEC("xdp.frags")
int test_slow(struct xdp_md *ctx)
{
	linger();
	return XDP_PASS;
}

SEC("socket")
int test_slow_filter(struct __sk_buff *ctx)
{
	linger();
	return -1;
}
