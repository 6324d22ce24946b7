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
#include "flow.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ETH_P_ERSPAN1 0x88be
#define ETH_P_ERSPAN3 0x22eb
#define GTPU_PORT 2152
#define TUNNEL_PORTS 4

/* UDP ports of tunnels, as --tunnel-ports has them. Rest: 0. */
const volatile __u16 cfg_vxlan_ports[TUNNEL_PORTS] = {};
const volatile __u16 cfg_geneve_ports[TUNNEL_PORTS] = {};

static __always_inline bool is_port(const volatile __u16 *ports, __u32 port)
{
	return port && (port == ports[0] || port == ports[1] || port == ports[2] || port == ports[3]);
}

/* All of them, also of tunnels: what these carry is looked into or not. */
static __always_inline bool ports_tell(__u32 proto, const __u8 *ports)
{
	return true;
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
	ports &= 0xffff;
	if (is_port(cfg_vxlan_ports, ports)) { /* RFC 7348 */
		if (!load(skb, w, at, b, 8) || !(b[0] & 8))
			return 0;
		return in_ethernet(skb, w, at + 8);
	}
	if (is_port(cfg_geneve_ports, ports)) { /* RFC 8926; not control packets */
		if (!load(skb, w, at, b, 8) || b[0] >> 6 || b[1] & 0x80)
			return 0;
		at += 8 + (b[0] & 0x3f) * 4;
		w->type = b[2] << 8 | b[3];
		w->at = at;
		return w->type == ETH_P_TEB ? in_ethernet(skb, w, at) : 1;
	}
	return ports == GTPU_PORT ? in_gtpu(skb, w, at) : 0;
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
		if (!cfg_inner || !more || !to_inner(skb, &p.walk, p.behind, p.ports))
			break;
	}
	if (unlikely(firsts)) {
#pragma unroll
		for (int i = 0; i < FANOUT_MAX_LEVELS; i++)
			if (firsts & 1 << i)
				note_first(&first[i], p.hash);
	}
	return p.hash;
}
