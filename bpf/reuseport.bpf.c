// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Which of the UDP sockets that share a port (SO_ATTACH_REUSEPORT_EBPF) gets a mirror's datagram: by the flow inside of it, the
 * same one for both directions and for the fragments of its datagrams, whatever the outer addresses and ports are. What
 * holds no IP, or ends too early, goes to the first socket.
 *
 * A packet begins with the payload here: reuseport_select_sock (net/core/sock_reuseport.c) takes the UDP header off.
 */
#define WALK_FROM_DATA
#include <linux/bpf.h>
#include <linux/in.h>
#include "flow.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ETH_P_PPP 0x880b
#define VXLAN_BYTES 8
#define GENEVE_BYTES 8
#define UDP_BYTES 8
/* As many as user space goes over (RFC 8200). */
#define MAX_BETWEEN 8
#define TUNNEL_PORTS 12

enum { RAW, VXLAN, GENEVE, GENEVE_VXLAN };

/* What the mirror puts around a frame, behind how many bytes. */
const volatile __u8 cfg_encap = VXLAN;
const volatile __u32 cfg_skip = 0;
/* EtherType of what begins there: ETH_P_TEB for Ethernet, ETH_P_PPP, ETH_P_IP for both versions; 0 for others. */
const volatile __u32 cfg_link = ETH_P_TEB;
const volatile __u32 cfg_sockets = 1;
/* UDP ports of tunnels in the mirrored traffic: their other port need not be the same in both directions. Rest: 0. */
const volatile __u16 cfg_tunnel_ports[TUNNEL_PORTS] = {};

static __always_inline bool ports_tell(__u32 proto, const __u8 *ports)
{
	__u32 src = port(ports), dst = port(ports + 2);

	if (proto != IPPROTO_UDP)
		return true;
#pragma unroll
	for (int i = 0; i < TUNNEL_PORTS; i++)
		if (cfg_tunnel_ports[i] && (src == cfg_tunnel_ports[i] || dst == cfg_tunnel_ports[i]))
			return false;
	return true;
}

/* Past address and control bytes of HDLC framing, which may be there (RFC 1662). */
static __always_inline int in_ppp(struct __sk_buff *skb, struct walk *w)
{
	__u8 b[4];

	if (!load(skb, w, w->at, b, 4))
		return 0;
	if (b[0] == 0xff && b[1] == 3) {
		w->type = by_ppp(b[2] << 8 | b[3]);
		w->at += 4;
	} else {
		w->type = by_ppp(b[0] << 8 | b[1]);
		w->at += 2;
	}
	return 1;
}

/* Into what begins here, of such a type; `link` for one that is not known. */
static __always_inline int in_frame(struct __sk_buff *skb, struct walk *w, __u32 type, __u32 link)
{
	__u8 b;

	if (type != ETH_P_TEB && type != ETH_P_PPP && !is_ip(type))
		type = link;
	switch (type) {
	case ETH_P_TEB:
		return in_ethernet(skb, w, w->at);
	case ETH_P_PPP:
		return in_ppp(skb, w);
	case ETH_P_IP:
	case ETH_P_IPV6:
		if (!load(skb, w, w->at, &b, 1))
			return 0;
		w->type = by_version(b);
		return 1;
	}
	return 0;
}

/* RFC 8926: over the header and its options, to `type`. */
static __always_inline int over_geneve(struct __sk_buff *skb, struct walk *w)
{
	__u8 b[4];

	if (!load(skb, w, w->at, b, 4))
		return 0;
	w->type = b[2] << 8 | b[3];
	w->at += GENEVE_BYTES + (b[0] & 0x3f) * 4;
	return 1;
}

/* From an IP header between two tunnels behind its UDP header. Frames are not taken out of fragments. */
static __always_inline int over_udp(struct __sk_buff *skb, struct walk *w)
{
	__u8 next, b[2];

	if (!load(skb, w, w->at, b, 1))
		return 0;
	if (b[0] >> 4 == 4) {
		w->at += (b[0] & 15) * 4 + UDP_BYTES;
		return 1;
	}
	if (b[0] >> 4 != 6 || !load(skb, w, w->at + 6, &next, 1))
		return 0;
	w->at += sizeof(struct ipv6hdr);
	for (int i = 0; i < MAX_BETWEEN && next != IPPROTO_UDP; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_ROUTING)
			return 0;
		if (!load(skb, w, w->at, b, 2))
			return 0;
		next = b[0];
		w->at += (b[1] + 1) * 8;
	}
	w->at += UDP_BYTES;
	return next == IPPROTO_UDP;
}

/* To the mirrored frame. Whether there is one. */
static __always_inline int to_frame(struct __sk_buff *skb, struct walk *w)
{
	w->at = cfg_skip;
	switch (cfg_encap) {
	case VXLAN:
		w->at += VXLAN_BYTES;
		break;
	case GENEVE:
		return over_geneve(skb, w) && in_frame(skb, w, w->type, cfg_link);
	case GENEVE_VXLAN:
		if (!over_geneve(skb, w) || !over_udp(skb, w))
			return 0;
		w->at += VXLAN_BYTES;
		break;
	}
	return in_frame(skb, w, cfg_link, 0);
}

SEC("socket")
int sluice_reuseport(struct __sk_buff *skb)
{
	struct packet p = {};
	int found;

	if (!to_frame(skb, &p.walk) || !to_ip(skb, &p.walk))
		return 0;
	found = p.walk.type == ETH_P_IP ? in_ipv4(skb, &p) : in_ipv6(skb, &p);
	if (found == 2)
		return 0;
	if (unlikely(p.first))
		note_first(&p.fragment, p.hash);
	return p.hash % cfg_sockets;
}
