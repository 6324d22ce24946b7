/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Tunnel headers: which packets carry others, and where the packet inside lies. */
#ifndef SLUICE_TUNNEL_H
#define SLUICE_TUNNEL_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include "common.h"
#include "frame.h"
#include "maps.h"

/* Offsets of what is inside reach this far into a frame; what lies deeper passes. */
#define TUNNEL_REACH 0x3ff

#define VXLAN_HEADER 8
#define VXLAN_PORT 4789
#define VXLAN_FLAG_VNI 0x08
#define GENEVE_HEADER 8
#define GENEVE_CONTROL 0x80
#define GENEVE_CRITICAL 0x40
/* Of a mirror's frame; with more it passes. */
#define GENEVE_MAX_OPTIONS 16

/* GRE (RFC 2784, 2890; the acknowledgement of RFC 2637), first 16 bits in host order. */
#define GRE_CHECKSUM 0x8000
#define GRE_ROUTING 0x4000
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_ACK 0x0080
#define GRE_RESERVED 0x0078
#define GRE_VERSION 0x0007
#define GRE_ERSPAN 0x88be  /* I without, II with a sequence number */
#define GRE_ERSPAN3 0x22eb
#define ERSPAN2_HEADER 8
#define ERSPAN3_HEADER 12
#define ERSPAN3_OPTIONAL 8

/* What open_tunnel answers, packed: the type of what is inside | its offset << 16 | VNI << 32 | enum inside << 56. */
enum inside {
	INSIDE_PACKET = 0,
	INSIDE_NOTHING = 1,   /* nothing that could be looked at */
	INSIDE_VIOLATION = 2, /* this is no such tunnel: the flow engine does not look into this flow any more */
};
#define INSIDE(what, type, at, vni) ((__u64)(type) | (__u64)(at) << 16 | (__u64)(vni) << 32 | (__u64)(what) << 56)
#define INSIDE_WHAT(found) ((found) >> 56)
#define INSIDE_TYPE(found) ((found) & 0xffff)
#define INSIDE_AT(found) ((found) >> 16 & 0xffff)
#define INSIDE_VNI(found) ((found) >> 32 & 0xffffff)

static __always_inline bool is_port(const volatile __be16 *ports, __be16 port)
{
	return port == ports[0] || port == ports[1] || port == ports[2] || port == ports[3];
}

/* The kind of tunnel that a packet is, one of SL_TUNNEL_*; 0: none that is looked into. `verdict`: of its parser. */
static __always_inline __u32 tunnel_kind(const struct sl_packet *p, int verdict)
{
	if (verdict == SL_V_SHUNTED && p->proto == IPPROTO_UDP) {
		if (cfg_tunnels & SL_TUNNEL_VXLAN && is_port(cfg_vxlan_ports, p->dport))
			return SL_TUNNEL_VXLAN;
		if (cfg_tunnels & SL_TUNNEL_GENEVE && is_port(cfg_geneve_ports, p->dport))
			return SL_TUNNEL_GENEVE;
	}
	if (verdict == SL_V_PASS_OTHER) {
		if (cfg_tunnels & SL_TUNNEL_GRE && p->proto == IPPROTO_GRE)
			return SL_TUNNEL_GRE;
		if (cfg_tunnels & SL_TUNNEL_IPIP && (p->proto == IPPROTO_IPIP || p->proto == IPPROTO_IPV6))
			return SL_TUNNEL_IPIP;
	}
	return 0;
}

static __always_inline __u32 vni_of(const __u8 *header)
{
	return header[4] << 16 | header[5] << 8 | header[6];
}

/* A type that is IP or Ethernet, at an offset that something is at. */
static __always_inline __u64 inside(__u32 type, __u32 at, __u32 limit, __u32 vni)
{
	if (at >= limit || (type != ETH_P_TEB && type != ETH_P_IP && type != ETH_P_IPV6))
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	return INSIDE(INSIDE_PACKET, type, at, vni);
}

static __always_inline __u64 open_gre(__u8 *header, void *end, __u32 at, __u32 limit)
{
	__u32 size = 4, flags, type;
	__u8 *erspan;

	if ((void *)(header + 4) > end)
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	flags = header[0] << 8 | header[1];
	type = header[2] << 8 | header[3];
	if (flags & (GRE_ROUTING | GRE_RESERVED | GRE_VERSION))
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	size += flags & GRE_CHECKSUM ? 4 : 0;
	size += flags & GRE_KEY ? 4 : 0;
	size += flags & GRE_SEQUENCE ? 4 : 0;
	size += flags & GRE_ACK ? 4 : 0;
	if (type == GRE_ERSPAN) {
		size += flags & GRE_SEQUENCE ? ERSPAN2_HEADER : 0;
		type = ETH_P_TEB;
	} else if (type == GRE_ERSPAN3) {
		erspan = header + size;
		if ((void *)(erspan + ERSPAN3_HEADER) > end)
			return INSIDE(INSIDE_NOTHING, 0, 0, 0);
		size += ERSPAN3_HEADER + (erspan[ERSPAN3_HEADER - 1] & 1 ? ERSPAN3_OPTIONAL : 0);
		type = ETH_P_TEB;
	}
	return inside(type, at + size, limit, 0);
}

/* Whether options fill their room exactly: whoever ends a mirror looks into no other. */
static __always_inline bool options_fill(const __u8 *options, const void *end, __u32 room)
{
	__u32 at = 0;

	for (int i = 0; i < GENEVE_MAX_OPTIONS; i++) {
		const __u8 *option = options + (at & 0xff);

		if (at + 4 > room || (const void *)(option + 4) > end)
			break;
		at += 4 + (option[3] & 0x1f) * 4;
	}
	return at == room;
}

/*
 * Opens the tunnel of this kind whose header is at offset `at`, in a packet that ends at `limit`. `proto`: of the IP
 * header before. Apart, so that it is verified once.
 */
__noinline __u64 open_tunnel(frame_ctx *ctx, __u32 kind, __u32 proto, __u32 at, __u32 limit)
{
	void *data, *end;
	__u8 *header;
	__u32 size;

	if (at > TUNNEL_REACH || !frame_bounds(ctx, &data, &end))
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	at &= TUNNEL_REACH;
	header = data + at;
	if (kind == SL_TUNNEL_IPIP)
		return inside(proto == IPPROTO_IPIP ? ETH_P_IP : ETH_P_IPV6, at, limit, 0);
	if (kind == SL_TUNNEL_GRE)
		return open_gre(header, end, at, limit);
	/* Both have eight bytes, the VNI in the same place. */
	if (at + VXLAN_HEADER > limit)
		return INSIDE(INSIDE_VIOLATION, 0, 0, 0);
	if ((void *)(header + VXLAN_HEADER) > end)
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	if (kind == SL_TUNNEL_VXLAN) {
		if (!(header[0] & VXLAN_FLAG_VNI))
			return INSIDE(INSIDE_VIOLATION, 0, 0, 0);
		return inside(ETH_P_TEB, at + VXLAN_HEADER, limit, vni_of(header));
	}
	if (header[0] >> 6)
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	size = GENEVE_HEADER + (header[0] & 0x3f) * 4;
	if (at + size > limit)
		return INSIDE(INSIDE_VIOLATION, 0, 0, 0);
	/* As in src/packet/encap: what is no frame for the source is none here. */
	if (cfg_mirror && (header[1] & (GENEVE_CONTROL | GENEVE_CRITICAL) ||
			   !options_fill(header + GENEVE_HEADER, end, size - GENEVE_HEADER)))
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	return inside(header[2] << 8 | header[3], at + size, limit, vni_of(header));
}

#endif
