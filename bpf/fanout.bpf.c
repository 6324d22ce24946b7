// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Which ring of an AF_PACKET fanout group (PACKET_FANOUT_EBPF) gets a packet: the kernel takes what is returned modulo the
 * rings. Both directions of a flow give the same number, and so do the fragments of its datagrams, whatever VLAN tags,
 * MPLS labels and PPPoE sessions are around them. What is not IP goes to the first ring.
 *
 * Received packets begin with the network header here: the kernel has taken off the link-layer header and the outermost tag.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "fanout.h"
#include "walk.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ETH_P_ERSPAN1 0x88be
#define ETH_P_ERSPAN3 0x22eb
#define VXLAN_PORT 4789
#define GENEVE_PORT 6081
#define GTPU_PORT 2152

/* A packet, and what is known of it so far. */
struct packet {
	struct walk walk;
	__u32 hash;
	__u32 first; /* it is the first of several fragments, with this key */
	struct fanout_fragment fragment;
};

/* Goes on behind an Ethernet header. */
static __always_inline int in_ethernet(struct __sk_buff *skb, struct walk *w, __u32 at)
{
	__u8 b[2];

	if (!load(skb, w, at + 12, b, 2))
		return 0;
	w->type = b[0] << 8 | b[1];
	w->at = at + 14;
	return 1;
}

/* RFC 2784, 2890; ERSPAN: draft-foschiano-erspan. */
static __always_inline int in_gre(struct __sk_buff *skb, struct walk *w, __u32 at)
{
	__u32 type, size = 4;
	__u8 b[4];

	if (!load(skb, w, at, b, 4) || b[1] & 7 || b[0] & 0x40)
		return 0;
	if (b[0] & 0x80)
		size += 4;
	if (b[0] & 0x20)
		size += 4;
	if (b[0] & 0x10)
		size += 4;
	type = b[2] << 8 | b[3];
	at += size;
	if (type == ETH_P_TEB)
		return in_ethernet(skb, w, at);
	/* Type I has no header of its own, and no sequence number. */
	if (type == ETH_P_ERSPAN1)
		return in_ethernet(skb, w, b[0] & 0x10 ? at + 8 : at);
	if (type == ETH_P_ERSPAN3) {
		if (!load(skb, w, at + 11, b, 1))
			return 0;
		return in_ethernet(skb, w, b[0] & 1 ? at + 20 : at + 12);
	}
	w->type = type;
	w->at = at;
	return 1;
}

/* 3GPP TS 29.281: user data, behind optional fields and extension headers. */
static __always_inline int in_gtpu(struct __sk_buff *skb, struct walk *w, __u32 at)
{
	__u8 b[12];
	__u8 next = 0;

	if (!load(skb, w, at, b, 8) || b[0] >> 4 != 3 || b[1] != 0xff)
		return 0;
	if (b[0] & 7) {
		if (!load(skb, w, at, b, 12))
			return 0;
		if (b[0] & 4)
			next = b[11];
		at += 4;
	}
	at += 8;
	for (int i = 0; i < 4 && next; i++) {
		__u32 size;

		if (!load(skb, w, at, b, 1) || !b[0])
			return 0;
		size = b[0] * 4;
		if (!load(skb, w, at + size - 1, &next, 1))
			return 0;
		at += size;
	}
	if (next || !load(skb, w, at, b, 1))
		return 0;
	w->type = by_version(b[0]);
	w->at = at;
	return 1;
}

/* Moves to what a tunnel carries, if this is one: whether it is. `ports`: as in the UDP header. */
__noinline int to_inner(struct __sk_buff *skb, struct walk *w, __u32 at, __u32 ports)
{
	__u8 b[8];

	if (!w)
		return 0;
	switch (w->proto) {
	case IPPROTO_IPIP:
		w->type = ETH_P_IP;
		w->at = at;
		return 1;
	case IPPROTO_IPV6:
		w->type = ETH_P_IPV6;
		w->at = at;
		return 1;
	case IPPROTO_GRE:
		return in_gre(skb, w, at);
	case IPPROTO_UDP:
		break;
	default:
		return 0;
	}
	at += 8;
	switch (ports & 0xffff) {
	case VXLAN_PORT: /* RFC 7348 */
		if (!load(skb, w, at, b, 8) || !(b[0] & 8))
			return 0;
		return in_ethernet(skb, w, at + 8);
	case GENEVE_PORT: /* RFC 8926; not control packets */
		if (!load(skb, w, at, b, 8) || b[0] >> 6 || b[1] & 0x80)
			return 0;
		at += 8 + (b[0] & 0x3f) * 4;
		w->type = b[2] << 8 | b[3];
		w->at = at;
		return w->type == ETH_P_TEB ? in_ethernet(skb, w, at) : 1;
	case GTPU_PORT:
		return in_gtpu(skb, w, at);
	}
	return 0;
}

/* With the ports, if there are any: they are answered, as one word. */
static __always_inline __u32 transport(struct __sk_buff *skb, struct packet *p, __u32 at, __u32 src, __u32 dst,
				       __u8 *b, bool loaded)
{
	if (!has_ports(p->walk.proto) || (!loaded && !load(skb, &p->walk, at, b, 4)))
		__builtin_memset(b, 0, 4);
	if (cfg_pair)
		p->hash = both(&p->walk, src, dst, 0);
	else
		p->hash = both(&p->walk, mix(src, port(b)), mix(dst, port(b + 2)), p->walk.proto);
	return port(b) << 16 | port(b + 2);
}

/* A later fragment, at which nothing more can be seen. */
static __always_inline int follow_first(struct packet *p, __u32 src, __u32 dst)
{
	__u32 *hash = bpf_map_lookup_elem(&fragments, &p->fragment);

	if (hash) {
		p->hash = *hash;
		count(FANOUT_FOLLOWED);
	} else {
		/* It came before the first one, or the note of that was displaced. */
		p->hash = both(&p->walk, src, dst, 0);
		count(FANOUT_UNKNOWN);
	}
	return 0;
}

/* Both return 0 when nothing more is to be looked at, 1 with what is behind it, 2 when this was not IP. */
__noinline int in_ipv4(struct __sk_buff *skb, struct packet *p)
{
	struct {
		struct iphdr ip;
		__u8 ports[4];
	} h;
	__u32 src, dst, at, ports;
	bool whole;

	if (!p)
		return 2;
	whole = load(skb, &p->walk, p->walk.at, &h, sizeof(h));
	if (!whole && !load(skb, &p->walk, p->walk.at, &h.ip, sizeof(h.ip)))
		return 2;
	if (h.ip.version != 4 || h.ip.ihl < 5)
		return 2;
	at = p->walk.at + h.ip.ihl * 4;
	p->walk.proto = h.ip.protocol;
	src = mix(cfg_seed, bpf_ntohl(h.ip.saddr));
	dst = mix(cfg_seed, bpf_ntohl(h.ip.daddr));
	if (unlikely(h.ip.frag_off & bpf_htons(0x3fff)) && (!cfg_pair || cfg_inner)) {
		__builtin_memset(&p->fragment, 0, sizeof(p->fragment));
		p->fragment.src[0] = h.ip.saddr;
		p->fragment.dst[0] = h.ip.daddr;
		p->fragment.id = h.ip.id;
		p->fragment.word = p->walk.proto | p->walk.vlans << 8;
		if (h.ip.frag_off & bpf_htons(0x1fff))
			return follow_first(p, src, dst);
		p->first = 1;
	}
	if (unlikely(p->walk.proto == IPPROTO_AH)) {
		__u8 b[2];

		/* RFC 4302: in clear text what is behind it. */
		if (load(skb, &p->walk, at, b, 2)) {
			p->walk.proto = b[0];
			at += (b[1] + 2) * 4;
		}
		whole = false;
	}
	ports = transport(skb, p, at, src, dst, h.ports, whole && h.ip.ihl == 5);
	return cfg_inner ? to_inner(skb, &p->walk, at, ports) : 0;
}

/* Walks extension headers. 1: a later fragment. */
static __always_inline int extensions(struct __sk_buff *skb, struct packet *p, __u32 *offset)
{
	__u32 at = *offset;
	__u8 b[8];

	for (int i = 0; i < FANOUT_MAX_EXT_HEADERS; i++) {
		__u32 size;

		switch (p->walk.proto) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			if (!load(skb, &p->walk, at, b, 8))
				return 0;
			size = (b[1] + 1) * 8;
			break;
		case IPPROTO_AH:
			if (!load(skb, &p->walk, at, b, 8))
				return 0;
			size = (b[1] + 2) * 4;
			break;
		case IPPROTO_FRAGMENT:
			if (!load(skb, &p->walk, at, b, 8))
				return 0;
			size = 8;
			/* The protocol of a later fragment is that of the first one: both are of the fragment header. */
			__builtin_memcpy(&p->fragment.id, b + 4, 4);
			p->fragment.word = b[0] | p->walk.vlans << 8;
			if (b[2] | (b[3] & 0xf8)) {
				p->walk.proto = b[0];
				return 1;
			}
			/* RFC 6946: an atomic fragment is a whole datagram. */
			p->first = b[3] & 1;
			break;
		default:
			*offset = at;
			return 0;
		}
		p->walk.proto = b[0];
		at += size;
	}
	*offset = at;
	return 0;
}

__noinline int in_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct {
		struct ipv6hdr ip;
		__u8 ports[4];
	} h;
	__u32 src = cfg_seed, dst = cfg_seed, at, ports;
	bool whole;

	if (!p)
		return 2;
	whole = load(skb, &p->walk, p->walk.at, &h, sizeof(h));
	if (!whole && !load(skb, &p->walk, p->walk.at, &h.ip, sizeof(h.ip)))
		return 2;
	if (h.ip.version != 6)
		return 2;
	at = p->walk.at + sizeof(h.ip);
	p->walk.proto = h.ip.nexthdr;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		src = mix(src, bpf_ntohl(h.ip.saddr.s6_addr32[i]));
		dst = mix(dst, bpf_ntohl(h.ip.daddr.s6_addr32[i]));
	}
	if (!has_ports(p->walk.proto) && (!cfg_pair || cfg_inner)) {
		__u32 before = at;

		__builtin_memcpy(p->fragment.src, &h.ip.saddr, 16);
		__builtin_memcpy(p->fragment.dst, &h.ip.daddr, 16);
		if (extensions(skb, p, &at))
			return follow_first(p, src, dst);
		if (at != before)
			whole = false;
	}
	ports = transport(skb, p, at, src, dst, h.ports, whole);
	return cfg_inner ? to_inner(skb, &p->walk, at, ports) : 0;
}

SEC("socket")
int sluice_fanout(struct __sk_buff *skb)
{
	struct fanout_fragment first[FANOUT_MAX_LEVELS];
	struct packet p = {};
	__u32 firsts = 0;

	walk_from(skb, &p.walk);
#pragma unroll
	for (int i = 0; i < FANOUT_MAX_LEVELS; i++) {
		int more;

		if (unlikely(!is_ip(p.walk.type)) && !to_ip(skb, &p.walk))
			break;
		more = p.walk.type == ETH_P_IP ? in_ipv4(skb, &p) : in_ipv6(skb, &p);
		if (more == 2)
			break;
		if (unlikely(p.first)) {
			first[i] = p.fragment;
			firsts |= 1 << i;
			p.first = 0;
		}
		if (!cfg_inner || !more)
			break;
	}
	if (unlikely(firsts)) {
#pragma unroll
		for (int i = 0; i < FANOUT_MAX_LEVELS; i++)
			if (firsts & 1 << i) {
				bpf_map_update_elem(&fragments, &first[i], &p.hash, BPF_ANY);
				count(FANOUT_FIRST);
			}
	}
	return p.hash;
}
