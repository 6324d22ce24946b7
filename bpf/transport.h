/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Transport headers. */
#ifndef SLUICE_TRANSPORT_H
#define SLUICE_TRANSPORT_H

#include <linux/in.h>
#include <linux/in6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include "common.h"
#include "maps.h"
#include "steer.h"

/* Ports are read from the first fragment of a datagram. */
#ifdef SLUICE_STEER
#define cfg_first_fragments (cfg_fragments || cfg_steer)
#else
#define cfg_first_fragments cfg_fragments
#endif

/* A part of a key is written in the width in which the look-up reads it: it would wait for narrower stores. */
typedef __u64 __attribute__((may_alias)) key_part;

/* Ports, where their addresses are, and the word. */
static __always_inline key_part ports_and_word(const struct sl_packet *p)
{
	__u32 low = p->dir ? p->dport : p->sport;
	__u32 high = p->dir ? p->sport : p->dport;
	__u32 word = p->proto | (cfg_vlan_in_key ? p->vlans : 0);

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (__u64)word << 32 | high << 16 | low;
#else
	return (__u64)low << 48 | (__u64)high << 32 | word;
#endif
}

/* The type that answers an ICMP type, plus one; 0 when there is none (one-way). Corpus rule as in Zeek's ICMP.cc. */
static const __u8 icmp_answer[256] = {
	[8] = 1 + 0,   [0] = 1 + 8,   [13] = 1 + 14, [14] = 1 + 13, [15] = 1 + 16,
	[16] = 1 + 15, [17] = 1 + 18, [18] = 1 + 17, [10] = 1 + 9,  [9] = 1 + 10,
};
static const __u8 icmp6_answer[256] = {
	[128] = 1 + 129, [129] = 1 + 128, [130] = 1 + 131, [131] = 1 + 130, [133] = 1 + 134, [134] = 1 + 133,
	[135] = 1 + 136, [136] = 1 + 135, [139] = 1 + 140, [140] = 1 + 139, [144] = 1 + 145, [145] = 1 + 144,
};

/* One-way types: the sender's port says so, which keeps A->B apart from B->A. */
#define ICMP_ONE_WAY 0x8000

/* Reads the transport header. Returns SL_V_SHUNTED when the packet has a key, else the verdict. */
static __always_inline int parse_transport(void *l4, void *end, __u32 l4_len, struct sl_packet *p)
{
	if (likely(p->proto == IPPROTO_TCP)) {
		struct tcphdr *tcp = l4;
		__u32 header;

		if ((void *)(tcp + 1) > end)
			return SL_V_PASS_PARSE;
		header = tcp->doff * 4;
		if (header < sizeof(*tcp) || header > l4_len)
			return SL_V_PASS_PARSE;
		p->sport = tcp->source;
		p->dport = tcp->dest;
		p->seq = bpf_ntohl(tcp->seq);
		p->ack = bpf_ntohl(tcp->ack_seq);
		p->tcp_flags = ((__u8 *)tcp)[13];
		p->window = tcp->window;
		p->payload = l4_len - header;
		return SL_V_SHUNTED;
	}
	if (p->proto == IPPROTO_UDP) {
		struct udphdr *udp = l4;
		__u32 len;

		if ((void *)(udp + 1) > end)
			return SL_V_PASS_PARSE;
		len = bpf_ntohs(udp->len);
		if (len < sizeof(*udp) || (len > l4_len && !(p->flags & SL_P_FRAGMENT)))
			return SL_V_PASS_PARSE;
		p->sport = udp->source;
		p->dport = udp->dest;
		/* Of a fragment, what is here. */
		p->payload = (len > l4_len ? l4_len : len) - sizeof(*udp);
		return SL_V_SHUNTED;
	}
	if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6) {
		__u8 *icmp = l4;
		__u32 answer;

		if (l4 + 8 > end || l4_len < 8)
			return SL_V_PASS_PARSE;
		answer = p->proto == IPPROTO_ICMP ? icmp_answer[icmp[0]] : icmp6_answer[icmp[0]];
		p->sport = bpf_htons(answer ? icmp[0] : icmp[0] | ICMP_ONE_WAY);
		p->dport = bpf_htons(answer ? answer - 1 : icmp[1]);
		p->payload = l4_len - 8;
		return SL_V_SHUNTED;
	}
	if (p->proto == IPPROTO_SCTP) {
		struct udphdr *ports = l4; /* SCTP begins with the same two ports */

		if (l4 + 12 > end || l4_len < 12)
			return SL_V_PASS_PARSE;
		p->sport = ports->source;
		p->dport = ports->dest;
		p->payload = l4_len - 12;
		return SL_V_SHUNTED;
	}
	/* Carriers of other packets, and what belongs to the network itself. */
	if (p->proto == IPPROTO_IPIP || p->proto == IPPROTO_IPV6 || p->proto == IPPROTO_GRE || p->proto == IPPROTO_IGMP ||
	    p->proto == IPPROTO_NONE)
		return SL_V_PASS_OTHER;
	/* By address and protocol alone. */
	p->payload = l4_len;
	return SL_V_SHUNTED;
}

/* A fragment's transport header, if it is the first one and that is asked for. `l4_len`: what of the datagram is here. */
static __always_inline int parse_fragment(void *l4, void *end, __u32 l4_len, struct sl_packet *p)
{
	if (!cfg_first_fragments)
		return SL_V_PASS_FRAGMENT;
	if (p->flags & SL_P_LATER)
		p->payload = l4_len;
	else if (l4_len >= 8 && parse_transport(l4, end, l4_len, p) == SL_V_SHUNTED)
		p->flags |= SL_P_FIRST;
	return SL_V_PASS_FRAGMENT;
}

#endif
