// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Behind the gate's pass verdict, in the slot `next`: hands a frame to the AF_XDP socket of its queue, with the time before it.
 * Where there is no socket, or none any more, the frame goes on to the kernel.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "common.h"
#include "xsk.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define NSEC_PER_SEC 1000000000ULL
#define CHECKSUM_UNNECESSARY 1
#define CHECKSUM_PARTIAL 3

/* The kernel can show what is behind the context: Linux 6.2. */
const volatile __u32 cfg_peek = 0;

struct {
	__u32 on_veth;              /* set once the gate is known to run in the driver of a veth */
	struct sl_xsk_note nothing; /* puts the layout into the object's BTF */
} state;

/* One for each queue. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* Of the kernel's own structures, what we look at. A veth has the packet that it makes a frame of behind the context. */
struct sk_buff {
	__s64 tstamp;
	__u8 tstamp_type : 2;
	__u8 ip_summed : 2;
	__u32 vlan_all;
	__u16 vlan_tci;
} __attribute__((preserve_access_index));

struct sk_buff___before_6_11 {
	__u8 mono_delivery_time : 1;
} __attribute__((preserve_access_index));

struct veth_xdp_buff {
	struct sk_buff *skb;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;
extern void *bpf_rdonly_cast(const void *ctx, __u32 type) __ksym __weak;

/* Zero unless there is a stamp, and that of the wall clock. */
static __always_inline __u64 stamp_of(struct sk_buff *skb)
{
	if (bpf_core_field_exists(skb->tstamp_type)) {
		if (BPF_CORE_READ_BITFIELD(skb, tstamp_type))
			return 0;
	} else {
		struct sk_buff___before_6_11 *old = (void *)skb;

		if (bpf_core_field_exists(old->mono_delivery_time) && BPF_CORE_READ_BITFIELD(old, mono_delivery_time))
			return 0;
	}
	return skb->tstamp;
}

SEC("xdp.frags")
int sluice_xsk(struct xdp_md *ctx)
{
	__u32 flags = SL_XSK_MONOTONIC, tci = 0;
	struct sl_xsk_note *note;
	__u64 time = 0;
	long action;

	action = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
	if (action != XDP_REDIRECT)
		return action;
	/* The driver has no room for a note: the sensor takes the time. */
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*note)))
		return action;
	note = (void *)(long)ctx->data_meta;
	if ((void *)(note + 1) > (void *)(long)ctx->data)
		return action;
	if (cfg_peek && state.on_veth && bpf_core_type_exists(struct veth_xdp_buff)) {
		struct veth_xdp_buff *veth =
			bpf_rdonly_cast(bpf_cast_to_kern_ctx(ctx), bpf_core_type_id_kernel(struct veth_xdp_buff));
		struct sk_buff *skb = veth->skb;

		/* None: the frame was redirected to the veth. */
		if (skb) {
			__u32 summed = BPF_CORE_READ_BITFIELD(skb, ip_summed);

			time = stamp_of(skb);
			if (time)
				flags = SL_XSK_REALTIME;
			if (skb->vlan_all) {
				flags |= SL_XSK_VLAN;
				tci = skb->vlan_tci;
			}
			if (summed == CHECKSUM_PARTIAL)
				flags |= SL_XSK_NOT_READY;
			else if (summed == CHECKSUM_UNNECESSARY)
				flags |= SL_XSK_VALID;
		}
	}
	if (!time)
		time = bpf_ktime_get_ns();
	note->sec = time / NSEC_PER_SEC;
	note->nsec = time % NSEC_PER_SEC;
	note->vlan_tci = tci;
	note->flags = flags;
	return action;
}
