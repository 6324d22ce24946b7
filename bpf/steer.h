/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Steering: what passes goes on at a CPU that its flow chooses, the same for both directions and for the fragments of its
 * datagrams. What has no addresses, and what would go to a CPU without a queue, goes on where it came.
 */
#ifndef SLUICE_STEER_H
#define SLUICE_STEER_H

#include "address.h"
#include "common.h"
#include "link.h"
#include "maps.h"

/* An object of its own (gate_steer.bpf.c): in the others nothing of this is there at all. */
#ifndef SLUICE_STEER
#define cfg_steer 0
#else

const volatile __u32 cfg_steer = 0; /* CPUs that packets are shared out to; 0: none, they go on where they came */
/*
 * Frames with VLAN tags too: in generic mode the kernel takes a tag off once more where they go on, and what is behind sees
 * frames that begin within the destination address.
 */
const volatile __u32 cfg_steer_tagged = 0;
const volatile __u32 cfg_steer_seed = 0; /* secret, so that nobody can choose flows that meet on one CPU */
const volatile __u32 cfg_steer_cpu[SL_STEER_CPUS] = {};

/* By number of the CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} steer SEC(".maps");

/* Sent to each of the CPUs, a row of SL_STEER_STRIDE(cfg_steer) for each CPU that sends. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_count);
} steered SEC(".maps");

/* A row for each CPU, which writes it alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_steering);
} steering SEC(".maps");

/* The number of the first fragment's flow, by which the others go where it went. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, struct sl_fragment_key);
	__type(value, __u32);
} steer_fragments SEC(".maps");

/* One word into a hash (the end of MurmurHash3). */
static __always_inline __u32 steer_mix(__u32 hash, __u32 word)
{
	hash ^= word;
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* Of the key, in which the ends of a flow have an order; of what has no ports they are 0 there. */
static __always_inline __u32 key_number(const struct sl_packet *p)
{
	const __u32 *word = (const __u32 *)p->key;
	__u32 number = cfg_steer_seed;

#pragma unroll
	for (int i = 0; i < 4; i++)
		number = steer_mix(number, word[i]);
	if (p->family == 6 || (cfg_tunnels && p->flags & SL_P_WIDE)) {
#pragma unroll
		for (int i = 4; i < 12; i++)
			number = steer_mix(number, word[i]);
	}
	return number;
}

/* A fragment: the first one leaves its number, the others find it, or go by their addresses alone. */
static __always_inline __u32 fragment_number(const struct sl_packet *p, struct sl_steering *mine)
{
	__u32 number = key_number(p);
	struct sl_fragment_key id = {};
	__u32 *found;

	mapped_ends(p, p->key, (struct mapped *)id.src, (struct mapped *)id.dst);
	id.id = p->fragment;
	id.word = p->proto | (cfg_vlan_in_key ? p->vlans : 0);
	if (p->flags & SL_P_FIRST) {
		bpf_map_update_elem(&steer_fragments, &id, &number, BPF_ANY);
		mine->first++;
		return number;
	}
	found = bpf_map_lookup_elem(&steer_fragments, &id);
	if (!found) {
		mine->unknown++;
		return number;
	}
	mine->followed++;
	return *found;
}

static __always_inline bool may_steer(struct xdp_md *ctx, __u32 verdict)
{
	void *data = (void *)(long)ctx->data;
	__be16 *proto = data + 12;

	/* Nothing inside of it was found; a packet of the host's own. */
	if (verdict == SL_V_PASS_TUNNEL || verdict == SL_V_PASS_HOST)
		return false;
	return cfg_steer_tagged || ((void *)(proto + 1) <= (void *)(long)ctx->data_end && !is_vlan(*proto));
}

/* Not static: the verifier looks at it once. What becomes of a packet that passes: XDP_REDIRECT, or XDP_PASS. */
__noinline int steer_packet(const struct sl_packet *p, __u32 cpu)
{
	struct sl_steering *mine = bpf_map_lookup_elem(&steering, &cpu);
	__u32 number, index, row;
	struct sl_count *c;

	if (!p || !mine || !p->family)
		return XDP_PASS;
	number = p->flags & SL_P_FRAGMENT ? fragment_number(p, mine) : key_number(p);
	index = (__u64)number * cfg_steer >> 32;
	row = cpu * SL_STEER_STRIDE(cfg_steer) + index;
	c = bpf_map_lookup_elem(&steered, &row);
	if (index >= SL_STEER_CPUS || !c ||
	    bpf_redirect_map(&steer, cfg_steer_cpu[index], XDP_PASS) != XDP_REDIRECT)
		return XDP_PASS;
	c->pkts++;
	c->bytes += p->frame_len;
	return XDP_REDIRECT;
}

/*
 * Runs at the CPU that a packet was sent to. What was sent and does not get here found its queue full: the kernel says so
 * in a tracepoint only.
 */
SEC("?xdp.frags/cpumap")
int sluice_arrived(struct xdp_md *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct sl_steering *mine = bpf_map_lookup_elem(&steering, &cpu);

	if (mine) {
		mine->arrived.pkts++;
		mine->arrived.bytes += bpf_xdp_get_buff_len(ctx);
	}
	return XDP_PASS;
}

#endif

#endif
