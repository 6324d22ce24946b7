/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Through the headers of a packet as programs on sockets see it, by calls: the bytes need not lie in one piece, and where a
 * hook lets a packet begin does not matter.
 */
#ifndef SLUICE_WALK_H
#define SLUICE_WALK_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ppp_defs.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "common.h"

/* Headers between the link layer and IP that are followed. */
#define WALK_MAX_STEPS 10

#define PACKET_OUTGOING 4

/* Secret, so that nobody can choose flows that have a number in common. */
const volatile __u32 cfg_seed = 0;
/* VLAN ids belong to the flow. */
const volatile __u8 cfg_vlan = 0;

/* How far a packet has been followed. */
struct walk {
	__u32 at;    /* offset of what is next */
	__u32 type;  /* its EtherType, in host order */
	__u32 base;  /* what offsets count from: BPF_HDR_START_* */
	__u32 vlans; /* ids of the two outermost tags that have one, if they belong to the flow */
	__u32 proto; /* of the transport header */
};

static __always_inline bool load(struct __sk_buff *skb, const struct walk *w, __u32 offset, void *to, __u32 size)
{
#ifdef WALK_FROM_DATA
	/* From where the hook lets the packet begin: there is no `base`. */
	return bpf_skb_load_bytes(skb, offset, to, size) == 0;
#else
	return bpf_skb_load_bytes_relative(skb, offset, to, size, w->base) == 0;
#endif
}

static __always_inline void add_tag(struct walk *w, __u32 tci)
{
	__u32 id = tci & 0xfff;

	if (!cfg_vlan || !id)
		return;
	if (!(w->vlans & 0xfff))
		w->vlans |= id;
	else if (!(w->vlans >> 12))
		w->vlans |= id << 12;
}

static __always_inline bool is_ip(__u32 type)
{
	return type == ETH_P_IP || type == ETH_P_IPV6;
}

/* What begins with an IP header begins with its version. */
static __always_inline __u32 by_version(__u8 first)
{
	return first >> 4 == 4 ? ETH_P_IP : first >> 4 == 6 ? ETH_P_IPV6 : 0;
}

/* What PPP carries (RFC 1661): 0 if it is of no use here. */
static __always_inline __u32 by_ppp(__u32 protocol)
{
	switch (protocol) {
	case PPP_IP:
		return ETH_P_IP;
	case PPP_IPV6:
		return ETH_P_IPV6;
	case PPP_MPLS_UC:
		return ETH_P_MPLS_UC;
	}
	return 0;
}

/* Goes on behind an Ethernet header. */
static __always_inline int in_ethernet(struct __sk_buff *skb, struct walk *w, __u32 at)
{
	__u8 b[2];

	if (!load(skb, w, at + 12, b, 2))
		return 0;
	w->type = b[0] << 8 | b[1];
	w->at = at + ETH_HLEN;
	return 1;
}

/* To the IP header, past tags, PPPoE (RFC 2516) and MPLS labels. Whether there is one. */
__noinline int to_ip(struct __sk_buff *skb, struct walk *w)
{
	__u8 b[8];

	if (!w)
		return 0;
	for (int i = 0; i < WALK_MAX_STEPS; i++) {
		switch (w->type) {
		case ETH_P_IP:
		case ETH_P_IPV6:
			return 1;
		case ETH_P_8021Q:
		case ETH_P_8021AD:
		case ETH_P_QINQ1:
			if (!load(skb, w, w->at, b, 4))
				return 0;
			add_tag(w, b[0] << 8 | b[1]);
			w->type = b[2] << 8 | b[3];
			w->at += 4;
			break;
		case ETH_P_PPP_SES:
			if (!load(skb, w, w->at, b, 8) || b[0] != 0x11 || b[1] != 0)
				return 0;
			w->at += 8;
			w->type = by_ppp(b[6] << 8 | b[7]);
			if (!w->type)
				return 0;
			break;
		case ETH_P_MPLS_UC:
		case ETH_P_MPLS_MC:
			if (!load(skb, w, w->at, b, 5))
				return 0;
			w->at += 4;
			if (b[2] & 1)
				w->type = by_version(b[4]);
			break;
		default:
			return 0;
		}
	}
	return 0;
}

/* Where a packet begins. Received ones have no link-layer header here, and no outermost tag. */
static __always_inline void walk_from(struct __sk_buff *skb, struct walk *w)
{
	w->type = bpf_ntohs(skb->protocol);
	w->base = BPF_HDR_START_NET;
	if (skb->vlan_present)
		add_tag(w, skb->vlan_tci);
	/* What this host sends may have its tags in front of what the kernel calls the network header. */
	if (unlikely(skb->pkt_type == PACKET_OUTGOING && !is_ip(w->type))) {
		w->base = BPF_HDR_START_MAC;
		w->at = ETH_HLEN;
	}
}

/* TCP, UDP, DCCP, SCTP and UDP-Lite begin with two ports. */
static __always_inline bool has_ports(__u32 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP || proto == IPPROTO_DCCP ||
	       proto == IPPROTO_UDPLITE;
}

static __always_inline __u32 port(const __u8 *b)
{
	return b[0] << 8 | b[1];
}

/* One word into a hash (the end of MurmurHash3). */
static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	hash ^= word;
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* Of a flow, from its two ends, which are added up: neither comes first. */
static __always_inline __u32 both(const struct walk *w, __u32 src, __u32 dst, __u32 proto)
{
	return mix(src + dst, proto | w->vlans << 8);
}

#endif
