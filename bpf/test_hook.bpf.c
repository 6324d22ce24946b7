// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* For tests: a program of somebody else's with xdpcap's hook. The destination port of UDP over IPv4 is the action. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 5);
	__type(key, int);
	__type(value, int);
} test_hook SEC(".maps");

/* xdpcap's hook.h: in place of `return action`. */
static __always_inline int leave(struct xdp_md *ctx, int action)
{
	bpf_tail_call(ctx, &test_hook, action);
	return action;
}

static __always_inline int decide(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > (void *)(long)ctx->data_end || eth->h_proto != bpf_htons(ETH_P_IP) ||
	    ip->protocol != IPPROTO_UDP)
		return leave(ctx, XDP_PASS);
	return leave(ctx, bpf_ntohs(udp->dest) & 3);
}

SEC("xdp")
int test_plain(struct xdp_md *ctx)
{
	return decide(ctx);
}

SEC("xdp.frags")
int test_frags(struct xdp_md *ctx)
{
	return decide(ctx);
}
