// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Puts each frame that a mirror port of the lab sends to its tap into a tunnel: behind headers that user space has built,
 * from Ethernet over IPv4 on, of which the lengths, the checksum and the source port are filled in here.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ROOM 128
#define ETH 14
#define IP 20
#define IP_LENGTH (ETH + 2)
#define IP_CHECKSUM (ETH + 10)
#define UDP_SOURCE (ETH + IP)
#define UDP_LENGTH (ETH + IP + 4)

const volatile __u8 cfg_headers[ROOM] = {};
const volatile __u32 cfg_length = ROOM;
/* The outer header's checksum without its length, not inverted; in host order. */
const volatile __u32 cfg_sum = 0;
/* UDP: so many source ports, chosen by the flow inside as it is sent. 0: no UDP. */
const volatile __u32 cfg_sources = 0;

/* 0: frames; 1: bytes added; 2: frames for which there was no room. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} tunnel_counts SEC(".maps");

static __always_inline void count(__u32 which, __u64 by)
{
	__u64 *value = bpf_map_lookup_elem(&tunnel_counts, &which);

	if (value)
		__sync_fetch_and_add(value, by);
}

SEC("tc")
int lab_tunnel(struct __sk_buff *skb)
{
	__u32 length = cfg_length, hash = cfg_sources ? bpf_get_hash_recalc(skb) : 0;
	__u32 total, sum;
	__be16 word;

	if (length < ETH + IP || length > ROOM || bpf_skb_change_head(skb, length, 0) ||
	    bpf_skb_store_bytes(skb, 0, (const void *)cfg_headers, length, 0)) {
		count(2, 1);
		return TC_ACT_SHOT;
	}
	total = skb->len - ETH;
	word = bpf_htons(total);
	bpf_skb_store_bytes(skb, IP_LENGTH, &word, sizeof(word), 0);
	sum = cfg_sum + total;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	word = bpf_htons(~sum & 0xffff);
	bpf_skb_store_bytes(skb, IP_CHECKSUM, &word, sizeof(word), 0);
	if (cfg_sources) {
		word = bpf_htons(0xc000 + hash % cfg_sources);
		bpf_skb_store_bytes(skb, UDP_SOURCE, &word, sizeof(word), 0);
		word = bpf_htons(total - IP);
		bpf_skb_store_bytes(skb, UDP_LENGTH, &word, sizeof(word), 0);
	}
	count(0, 1);
	count(1, length);
	return TC_ACT_UNSPEC;
}
