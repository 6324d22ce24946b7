// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Pushes one or two VLAN tags on the frames that a mirror port of the lab sends to its tap. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Tag control information (priority, DEI, VLAN id) of each tag; the outer one is pushed only with cfg_tags = 2. */
const volatile __u32 cfg_tags = 1;
const volatile __u32 cfg_inner_tci = 100;
const volatile __u32 cfg_outer_tci = 200;
const volatile __u32 cfg_outer_protocol = 0x88a8;
/* Only frames that entered the hub here are tagged; 0 in both means all. */
const volatile __u32 cfg_from_first = 0;
const volatile __u32 cfg_from_second = 0;

/* 0: frames tagged; 1: bytes added; 2: frames that could not be tagged. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} vlan_counts SEC(".maps");

static __always_inline void count(__u32 which, __u64 by)
{
	__u64 *value = bpf_map_lookup_elem(&vlan_counts, &which);

	if (value)
		__sync_fetch_and_add(value, by);
}

SEC("tc")
int lab_vlan(struct __sk_buff *skb)
{
	__u32 from = skb->ingress_ifindex;

	if ((cfg_from_first || cfg_from_second) && from != cfg_from_first && from != cfg_from_second)
		return TC_ACT_UNSPEC;
	if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), cfg_inner_tci)) {
		count(2, 1);
		return TC_ACT_UNSPEC;
	}
	count(0, 1);
	count(1, 4);
	if (cfg_tags == 2) {
		if (bpf_skb_vlan_push(skb, bpf_htons(cfg_outer_protocol), cfg_outer_tci))
			count(2, 1);
		else
			count(1, 4);
	}
	return TC_ACT_UNSPEC;
}
