// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * How much of a frame a capture ring keeps: the headers of flows whose content nobody looks at any more, all of anything
 * else. User space notes such flows in a table that it has in memory; a SYN takes its flow out of it. A filter for sockets
 * on Ethernet: what is returned is the length that is kept.
 */
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include "walk.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define WHOLE 0x7fffffff
#define SNAP_SLOTS (1 << 18)

/* A flow of which headers are enough. No flow has 0 for check. */
struct snap_slot {
	__u32 hash;
	__u32 check;
};

/* By the lower bits of the hash; who comes later displaces the one before, whose frames are whole again. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SNAP_SLOTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct snap_slot);
} slots SEC(".maps");

struct ends {
	__u32 src;    /* hashes of the addresses */
	__u32 dst;
	__u32 across; /* both addresses, word by word, in one */
};

static __always_inline void end(struct ends *e, __be32 src, __be32 dst)
{
	e->src = mix(e->src, bpf_ntohl(src));
	e->dst = mix(e->dst, bpf_ntohl(dst));
	e->across = (e->across << 5 | e->across >> 27) ^ bpf_ntohl(src) ^ bpf_ntohl(dst);
}

/* The transport header of a flow begins at `at`, of which 20 bytes were loaded. */
static __always_inline __u32 keep(struct __sk_buff *skb, const struct walk *w, const struct ends *e, const __u8 *b,
				  __u32 at)
{
	__u32 sport = port(b), dport = port(b + 2), hash, check, index;
	__u32 size = w->proto == IPPROTO_TCP ? (b[12] >> 4) * 4 : 8;
	struct snap_slot *slot;

	/* From where the filter counts; outgoing frames may count from there already, and keep some more. */
	size += at + ETH_HLEN;
	/* Most acknowledgements: there is nothing to leave out. */
	if (skb->len <= size)
		return WHOLE;
	hash = both(w, mix(e->src, sport), mix(e->dst, dport), w->proto);
	check = (e->across ^ (sport ^ dport) << 16 ^ (sport + dport)) | 1;
	index = hash & (SNAP_SLOTS - 1);
	slot = bpf_map_lookup_elem(&slots, &index);
	if (!slot || slot->hash != hash || slot->check != check)
		return WHOLE;
	if (w->proto == IPPROTO_TCP && b[13] & TCP_SYN) {
		slot->check = 0;
		return WHOLE;
	}
	return size;
}

SEC("socket")
int sluice_snap(struct __sk_buff *skb)
{
	struct ends e = { cfg_seed, cfg_seed, 0 };
	struct walk w = {};

	walk_from(skb, &w);
	if (unlikely(!is_ip(w.type)) && !to_ip(skb, &w))
		return WHOLE;
	if (w.type == ETH_P_IP) {
		struct {
			struct iphdr ip;
			__u8 transport[20];
		} h;

		/* Only the plain ones: no options, no fragments. */
		if (!load(skb, &w, w.at, &h, sizeof(h)) || h.ip.version != 4 || h.ip.ihl != 5 ||
		    h.ip.frag_off & bpf_htons(0x3fff))
			return WHOLE;
		w.proto = h.ip.protocol;
		if (w.proto != IPPROTO_TCP && w.proto != IPPROTO_UDP)
			return WHOLE;
		end(&e, h.ip.saddr, h.ip.daddr);
		return keep(skb, &w, &e, h.transport, w.at + sizeof(h.ip));
	}
	struct {
		struct ipv6hdr ip;
		__u8 transport[20];
	} h;

	if (!load(skb, &w, w.at, &h, sizeof(h)) || h.ip.version != 6)
		return WHOLE;
	w.proto = h.ip.nexthdr;
	if (w.proto != IPPROTO_TCP && w.proto != IPPROTO_UDP)
		return WHOLE;
#pragma unroll
	for (int i = 0; i < 4; i++)
		end(&e, h.ip.saddr.s6_addr32[i], h.ip.daddr.s6_addr32[i]);
	return keep(skb, &w, &e, h.transport, w.at + sizeof(h.ip));
}
