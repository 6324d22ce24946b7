/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* IPv4 headers. */
#ifndef SLUICE_IPV4_H
#define SLUICE_IPV4_H

#include <linux/ip.h>
#include "transport.h"

static __always_inline key_part addresses4(__be32 low, __be32 high)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (__u64)high << 32 | low;
#else
	return (__u64)low << 32 | high;
#endif
}

/* The ports are known: the rest of the key. */
static __always_inline void finish4(const struct iphdr *ip, struct sl_packet *p, key_part *parts)
{
	if (unlikely(ip->saddr == ip->daddr))
		p->dir = bpf_ntohs(p->sport) > bpf_ntohs(p->dport);
	parts[1] = ports_and_word(p);
}

/* Returns SL_V_SHUNTED when the packet has a key, else the verdict. */
static __always_inline int parse_ipv4(void *l3, void *end, struct sl_packet *p, struct sl_key4 *key)
{
	struct iphdr *ip = l3;
	key_part *parts = (key_part *)key;
	__u32 header;
	int r;

	if ((void *)(ip + 1) > end || ip->version != 4)
		return SL_V_PASS_PARSE;
	header = ip->ihl * 4;
	p->ip_len = bpf_ntohs(ip->tot_len);
	if (header < sizeof(*ip) || p->ip_len < header)
		return SL_V_PASS_PARSE;
	p->family = 4;
	p->proto = ip->protocol;
	p->dir = bpf_ntohl(ip->saddr) > bpf_ntohl(ip->daddr);
	parts[0] = addresses4(p->dir ? ip->daddr : ip->saddr, p->dir ? ip->saddr : ip->daddr);
	if (unlikely(p->ip_len > p->frame_len - p->l3))
		return SL_V_PASS_PARSE;
	p->l4 = p->l3 + header;
	if (unlikely(ip->frag_off & bpf_htons(0x3fff))) {
		p->flags = ip->frag_off & bpf_htons(0x1fff) ? SL_P_FRAGMENT | SL_P_LATER : SL_P_FRAGMENT;
		p->fragment = ip->id;
		r = parse_fragment(l3 + header, end, p->ip_len - header, p);
		if (cfg_first_fragments && p->flags & SL_P_FIRST)
			finish4(ip, p, parts);
		return r;
	}
	if (unlikely(p->proto == IPPROTO_ICMPV6))
		return SL_V_PASS_OTHER;
	r = parse_transport(l3 + header, end, p->ip_len - header, p);
	if (r != SL_V_SHUNTED)
		return r;
	finish4(ip, p, parts);
	return SL_V_SHUNTED;
}

#endif
