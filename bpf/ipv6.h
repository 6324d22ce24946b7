/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* IPv6 headers and their extensions. */
#ifndef SLUICE_IPV6_H
#define SLUICE_IPV6_H

#include <linux/ipv6.h>
#include "link.h"
#include "transport.h"

struct ipv6_fragment {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

/* Half of an address, as it stands there. */
static __always_inline __u64 half(const struct in6_addr *addr, int which)
{
	__u64 value;

	__builtin_memcpy(&value, addr->s6_addr + which * 8, 8);
	return value;
}

/* Whether a comes after b in memcmp order. */
static __always_inline bool after(__u64 a, __u64 b)
{
	return bpf_be64_to_cpu(a) > bpf_be64_to_cpu(b);
}

static __always_inline bool is_extension(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS || proto == IPPROTO_AH;
}

/* What is behind the extension headers, packed: the protocol, the offset from the IPv6 header << 8, the bytes left << 32. */
#define BEHIND(proto, l4, left) ((proto) | (__u64)(l4) << 8 | (__u64)(left) << 32)

/* Walks extension headers. Apart, so that it is verified once. 0: cut, malformed, too many, or source routed. */
__noinline __u64 walk6(frame_ctx *ctx, __u32 l3, __u32 proto, __u32 left)
{
	void *data, *end;
	__u32 l4 = sizeof(struct ipv6hdr);

	if (!frame_bounds(ctx, &data, &end))
		return 0;
	l3 &= FRAME_REACH;
	left &= 0xffff;
	for (int i = 0; i < SL_MAX_EXT_HEADERS && is_extension(proto); i++) {
		__u8 *ext = data + l3 + (l4 & 0x3fff);
		__u32 size;

		if ((void *)(ext + 4) > end)
			return 0;
		size = proto == IPPROTO_AH ? (ext[1] + 2) * 4 : (ext[1] + 1) * 8;
		/* Source routed (RFC 5095): the destination of the flow is not the one in the header. */
		if (size > left || (proto == IPPROTO_ROUTING && ext[2] == 0 && ext[3] != 0))
			return 0;
		proto = ext[0];
		left -= size;
		l4 += size;
	}
	return is_extension(proto) ? 0 : BEHIND(proto & 0xff, l4 & 0x3fff, left);
}

static __always_inline int parse_fragment6(const struct ipv6_fragment *f, void *end, struct sl_packet *p, __u32 left)
{
	if ((void *)(f + 1) > end || left < sizeof(*f))
		return SL_V_PASS_PARSE;
	p->flags = f->offset & bpf_htons(0xfff8) ? SL_P_FRAGMENT | SL_P_LATER : SL_P_FRAGMENT;
	p->fragment = f->id;
	p->proto = f->next;
	p->l4 += sizeof(*f);
	return parse_fragment((void *)(f + 1), end, left - sizeof(*f), p);
}

/* Returns SL_V_SHUNTED when the packet has a key, else the verdict. */
static __always_inline int parse_ipv6(frame_ctx *ctx, void *l3, void *end, struct sl_packet *p,
				      struct sl_key6 *key)
{
	struct ipv6hdr *ip = l3;
	key_part *parts = (key_part *)key;
	__u64 src[2], dst[2];
	__u32 left, l4 = sizeof(*ip);
	int r;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return SL_V_PASS_PARSE;
	left = bpf_ntohs(ip->payload_len);
	p->ip_len = left + sizeof(*ip);
	p->family = 6;
	p->proto = ip->nexthdr;
	for (int i = 0; i < 2; i++) {
		src[i] = half(&ip->saddr, i);
		dst[i] = half(&ip->daddr, i);
	}
	p->dir = same_for_all(src[0] == dst[0] ? after(src[1], dst[1]) : after(src[0], dst[0]), p->frame_len, 1);
	for (int i = 0; i < 2; i++) {
		parts[i] = p->dir ? dst[i] : src[i];
		parts[2 + i] = p->dir ? src[i] : dst[i];
	}
	parts[5] = 0; /* no tunnel */
	if (unlikely(p->ip_len > p->frame_len - p->l3))
		return SL_V_PASS_PARSE;
	if (unlikely(is_extension(p->proto))) {
		__u64 behind = walk6(ctx, p->l3, p->proto, left);

		if (!behind)
			return SL_V_PASS_PARSE;
		p->proto = behind;
		l4 = behind >> 8 & 0x3fff;
		left = behind >> 32;
	}
	l4 = same_for_all(l4, p->frame_len, 0x3fff);
	p->l4 = p->l3 + l4;
	if (unlikely(p->proto == IPPROTO_FRAGMENT))
		r = parse_fragment6(l3 + l4, end, p, left);
	else if (unlikely(p->proto == IPPROTO_ICMP))
		return SL_V_PASS_OTHER;
	else
		r = parse_transport(l3 + l4, end, left, p);
	if (r != SL_V_SHUNTED && !(cfg_first_fragments && p->flags & SL_P_FIRST))
		return r;
	if (unlikely(src[0] == dst[0] && src[1] == dst[1]))
		p->dir = bpf_ntohs(p->sport) > bpf_ntohs(p->dport);
	parts[4] = ports_and_word(p);
	return r;
}

#endif
