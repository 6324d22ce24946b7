// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * One time stamp per frame for both taps. The bridge clears a frame's stamp, but leaves the mark alone: the mark carries
 * the low half of the time at which the frame entered the hub, and the mirror ports make a stamp of it again. A receiver
 * takes a stamp that is there already in place of one of its own, provided that no namespace lies between.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* CLOCK_REALTIME - CLOCK_MONOTONIC, microseconds. */
const volatile __u64 cfg_offset_us = 0;

/* As a frame enters the hub. */
SEC("tc")
int lab_stamp_in(struct __sk_buff *skb)
{
	skb->mark = (__u32)bpf_ktime_get_ns();
	return TC_ACT_UNSPEC;
}

/* As it leaves for a tap, less than four seconds later. */
SEC("tc")
int lab_stamp_out(struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_ns();

	/* The sender's time of departure, if there is one: its kind would stay and change the meaning of the stamp. */
	bpf_skb_set_tstamp(skb, 0, 0);
	skb->tstamp = now - ((__u32)now - skb->mark) + cfg_offset_us * 1000;
	return TC_ACT_UNSPEC;
}
