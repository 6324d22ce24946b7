/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the load-balancing program is told when it is loaded, and what it shares with user space. */
#ifndef SLUICE_FANOUT_H
#define SLUICE_FANOUT_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "common.h"

/* Extension headers of IPv6 that are followed. */
#define FANOUT_MAX_EXT_HEADERS 6
/* A packet, and what it carries: GENEVE over VXLAN has three. */
#define FANOUT_MAX_LEVELS 3

/* By the pair of addresses alone. */
const volatile __u8 cfg_pair = 0;
/* By what VXLAN, GENEVE, GRE, ERSPAN, IP in IP and GTP-U carry. */
const volatile __u8 cfg_inner = 0;

/* A datagram in fragments: addresses as in the packet (IPv4: in the first word), its identification, protocol and VLANs. */
struct fanout_fragment {
	__u32 src[4];
	__u32 dst[4];
	__u32 id;
	__u32 word;
};

/* The hash of the first fragment, by which the others go where it went. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct fanout_fragment);
	__type(value, __u32);
} fragments SEC(".maps");

enum { FANOUT_FIRST, FANOUT_FOLLOWED, FANOUT_UNKNOWN, FANOUT_COUNTS };

/* First fragments, later ones whose first one was known, later ones that went by their addresses alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FANOUT_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &what);

	if (value)
		__sync_fetch_and_add(value, 1);
}

#endif
