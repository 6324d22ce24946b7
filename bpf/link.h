/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From the Ethernet header to the IP header: VLAN tags, MPLS labels, PPPoE sessions. */
#ifndef SLUICE_LINK_H
#define SLUICE_LINK_H

#include <linux/if_ether.h>
#include <linux/ppp_defs.h>
#include <bpf/bpf_endian.h>
#include "common.h"
#include "frame.h"
#include "maps.h"

struct vlan_tag {
	__be16 tci;
	__be16 proto;
};

/* RFC 2516, and the protocol number of PPP behind it. */
struct pppoe {
	__u8 version_type;
	__u8 code;
	__be16 session;
	__be16 length;
	__be16 proto;
};

/* How far into a frame an IP header, or what comes before it, may lie. */
#define FRAME_REACH 0x3ff

#define MPLS_BOTTOM 0x100 /* of a label, in host order */

/*
 * The same offset, of which the verifier knows no more than the mask: what follows is then verified once, and not again
 * for every number of tags or extension headers. `len` is the length of a frame, of which 40 bits are never exceeded.
 */
static __always_inline __u32 same_for_all(__u32 offset, __u64 len, __u32 mask)
{
	return (offset + (__u32)(len >> 40)) & mask;
}

static __always_inline bool is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD) || proto == bpf_htons(0x9100);
}

/*
 * Behind PPPoE and MPLS at offset `at`. Answers what is there, the type of IP or another one, and its offset << 16. Apart,
 * so that it is verified once and not for every number of tags.
 */
__noinline __u32 unwrap(frame_ctx *ctx, __u32 at, __u32 proto)
{
	void *data, *end, *from;

	if (!frame_bounds(ctx, &data, &end))
		return 0;
	at &= FRAME_REACH;
	from = data + at;
	if (proto == bpf_htons(ETH_P_PPP_SES)) {
		struct pppoe *session = from;

		if ((void *)(session + 1) > end || session->version_type != 0x11 || session->code != 0)
			return proto;
		at += sizeof(*session);
		from = session + 1;
		if (session->proto == bpf_htons(PPP_IP))
			return at << 16 | bpf_htons(ETH_P_IP);
		if (session->proto == bpf_htons(PPP_IPV6))
			return at << 16 | bpf_htons(ETH_P_IPV6);
		if (session->proto != bpf_htons(PPP_MPLS_UC))
			return proto;
	} else if (proto != bpf_htons(ETH_P_MPLS_UC) && proto != bpf_htons(ETH_P_MPLS_MC)) {
		return proto;
	}
#pragma unroll
	for (int i = 0; i < SL_MAX_LABELS; i++) {
		__be32 *label = from;
		__u8 *next = (__u8 *)(label + 1);

		if ((void *)(next + 1) > end)
			break;
		at += sizeof(*label);
		from = next;
		if (*label & bpf_htonl(MPLS_BOTTOM)) {
			/* Nothing tells what a label stack carries but the first four bits. */
			if (*next >> 4 == 4)
				return at << 16 | bpf_htons(ETH_P_IP);
			if (*next >> 4 == 6)
				return at << 16 | bpf_htons(ETH_P_IPV6);
			break;
		}
	}
	return bpf_htons(ETH_P_MPLS_UC);
}

/*
 * Fills in where the network header is behind the Ethernet header at `from`, and the VLAN ids. Returns the type of what is
 * there; 0 when the frame is cut. The network header lies within `reach`, a mask.
 */
static __always_inline __be16 parse_link_at(frame_ctx *ctx, struct sl_packet *p, __u32 from, __u32 reach)
{
	void *data, *end;
	struct ethhdr *eth;
	__u32 at = from + sizeof(*eth);
	__be16 proto;

	if (!frame_bounds(ctx, &data, &end))
		return 0;
	eth = data + from;
	if ((void *)(eth + 1) > end)
		return 0;
	/* eth is packed, and would be read byte by byte. */
	proto = *(__be16 *)(data + from + 12);
#pragma unroll
	for (int i = 0; i < SL_MAX_TAGS; i++) {
		struct vlan_tag *tag = data + at;
		__u32 id;

		if (likely(!is_vlan(proto)))
			break;
		if ((void *)(tag + 1) > end)
			return 0;
		/* The two outermost tags with an id count; a priority tag is no tag. */
		id = bpf_ntohs(tag->tci) & 0x0fff;
		if ((cfg_vlan_in_key || cfg_rules || cfg_trace || cfg_peers) && id) {
			if (!(p->vlans & 0x000fff00))
				p->vlans |= id << 8;
			else if (!(p->vlans & 0xfff00000))
				p->vlans |= id << 20;
		}
		proto = tag->proto;
		at += sizeof(*tag);
	}
	if (unlikely(proto != bpf_htons(ETH_P_IP) && proto != bpf_htons(ETH_P_IPV6))) {
		__u32 found = unwrap(ctx, at, proto);

		proto = found;
		if (found >> 16)
			at = found >> 16;
	}
	p->l3 = same_for_all(at, p->frame_len, reach);
	return is_vlan(proto) ? 0 : proto;
}

/* From the beginning of the frame. */
static __always_inline __be16 parse_link(frame_ctx *ctx, struct sl_packet *p)
{
	return parse_link_at(ctx, p, 0, 63);
}

#endif
