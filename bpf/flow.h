/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The number of a flow, by which programs share packets out: from an IP header over the extension headers of IPv6 to the
 * ports, the same for both directions, and for the fragments of a datagram, which follow the note of their first one.
 */
#ifndef SLUICE_FLOW_H
#define SLUICE_FLOW_H

#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "fanout.h"
#include "walk.h"

/* A packet, and what is known of it so far. */
struct packet {
	struct walk walk;
	__u32 hash;
	__u32 first;  /* it is the first of several fragments, with this key */
	struct fanout_fragment fragment;
	__u32 behind; /* offset of the transport header */
	__u32 ports;  /* as in it; 0 if it has none, or none that tell flows apart */
};

/* Of the program that includes this: whether such ports, as on the wire, tell flows apart. */
static __always_inline bool ports_tell(__u32 proto, const __u8 *ports);

/* With the ports, if there are any. */
static __always_inline int transport(struct __sk_buff *skb, struct packet *p, __u32 at, __u32 src, __u32 dst, __u8 *b,
				     bool loaded)
{
	if (!has_ports(p->walk.proto) || (!loaded && !load(skb, &p->walk, at, b, 4)) || !ports_tell(p->walk.proto, b))
		__builtin_memset(b, 0, 4);
	if (cfg_pair)
		p->hash = both(&p->walk, src, dst, 0);
	else
		p->hash = both(&p->walk, mix(src, port(b)), mix(dst, port(b + 2)), p->walk.proto);
	p->behind = at;
	p->ports = port(b) << 16 | port(b + 2);
	return 1;
}

/* Where the other fragments are to go too. */
static __always_inline void note_first(const struct fanout_fragment *fragment, __u32 hash)
{
	bpf_map_update_elem(&fragments, fragment, &hash, BPF_ANY);
	count(FANOUT_FIRST);
}

/* A later fragment, at which nothing more can be seen. */
static __always_inline int follow_first(struct packet *p, __u32 src, __u32 dst)
{
	/* On the stack: what a function that is not static was given is no key before Linux 6.2. */
	struct fanout_fragment fragment = p->fragment;
	__u32 *hash = bpf_map_lookup_elem(&fragments, &fragment);

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

/* Both return 0 when nothing more can be seen, 1 at the transport header, 2 when this was not IP. */
__noinline int in_ipv4(struct __sk_buff *skb, struct packet *p)
{
	struct {
		struct iphdr ip;
		__u8 ports[4];
	} h;
	__u32 src, dst, at;
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
	return transport(skb, p, at, src, dst, h.ports, whole && h.ip.ihl == 5);
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
	__u32 src = cfg_seed, dst = cfg_seed, at;
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
	return transport(skb, p, at, src, dst, h.ports, whole);
}

#endif
