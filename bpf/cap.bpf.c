// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Captures a packet at an exit hook (xdpcap's ABI), whatever program the hook is of. Runs behind a generated filter, one
 * program for each action, and goes on as that program would have without the hook. Whether it is loaded for frames in several
 * buffers the loader says: as the owner of the hook.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "cap.h"
#include "common.h"
#include "gate.h"

/* A packet is copied in pieces: large ones, then small ones. Its room is whole small ones. */
#define LARGE 1024
#define SMALL 128
/* What bpf_xdp_load_bytes reaches. */
#define LONGEST 65535

const volatile __u32 cfg_hook = 0;
const volatile __u32 cfg_snaplen = LONGEST;
const volatile __u32 cfg_sample = 1;
const volatile __u32 cfg_gate = 0; /* the hook is of a gate: scratch and next are its */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SL_CAP_ACTIONS);
	__type(key, __u32);
	__type(value, struct sl_cap_count);
} cap_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} cap_ring SEC(".maps");

/* The gate's own. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_packet);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, int);
} next SEC(".maps");

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __noinline int take_notes(struct sl_cap_record *r)
{
	__u32 zero = 0;
	struct sl_packet *p = bpf_map_lookup_elem(&scratch, &zero);

	if (!p)
		return 0;
	r->noted = p->noted;
	r->verdict = p->verdict;
	r->rule = p->rule;
	r->owner = p->owner;
	p->noted = 0;
	return 0;
}

/* Whether all of it could be copied. */
static __always_inline bool copy(struct xdp_md *ctx, struct bpf_dynptr *room, __u32 len)
{
	__u32 at = 0;
	void *piece;

	for (int i = 0; i < LONGEST / LARGE; i++) {
		if (at + LARGE > len)
			break;
		piece = bpf_dynptr_data(room, sizeof(struct sl_cap_record) + at, LARGE);
		if (!piece || bpf_xdp_load_bytes(ctx, at, piece, LARGE))
			return false;
		at += LARGE;
	}
	for (int i = 0; i < LARGE / SMALL; i++) {
		__u32 left = len - at;

		if (at >= len)
			break;
		if (left > SMALL)
			left = SMALL;
		piece = bpf_dynptr_data(room, sizeof(struct sl_cap_record) + at, SMALL);
		if (!piece || bpf_xdp_load_bytes(ctx, at, piece, one_to(SMALL, left)))
			return false;
		at += SMALL;
	}
	return true;
}

static __always_inline bool capture(struct xdp_md *ctx, __u32 action)
{
	__u32 frame_len = bpf_xdp_get_buff_len(ctx);
	__u32 len = frame_len < cfg_snaplen ? frame_len : cfg_snaplen;
	struct sl_cap_record head = {
		.time = bpf_ktime_get_ns(),
		.frame_len = frame_len,
		.captured = len,
		.hook = cfg_hook,
		.action = action,
	};
	struct bpf_dynptr room;

	if (cfg_gate)
		take_notes(&head);
	if (bpf_ringbuf_reserve_dynptr(&cap_ring, sizeof(head) + (len + SMALL - 1) / SMALL * SMALL, 0, &room) ||
	    bpf_dynptr_write(&room, 0, &head, sizeof(head), 0) || !copy(ctx, &room, len)) {
		bpf_ringbuf_discard_dynptr(&room, 0);
		return false;
	}
	bpf_ringbuf_submit_dynptr(&room, 0);
	return true;
}

static __always_inline int at_exit(struct xdp_md *ctx, __u32 action)
{
	struct sl_cap_count *c = bpf_map_lookup_elem(&cap_counts, &action);

	if (c) {
		if (cfg_sample > 1 && bpf_get_prandom_u32() % cfg_sample)
			c->unsampled++;
		else if (capture(ctx, action))
			c->captured++;
		else
			c->lost++;
	}
	if (action == XDP_PASS && cfg_gate)
		bpf_tail_call_static(ctx, &next, 0);
	return action;
}

SEC("xdp")
int sluice_cap_0(struct xdp_md *ctx)
{
	return at_exit(ctx, XDP_ABORTED);
}

SEC("xdp")
int sluice_cap_1(struct xdp_md *ctx)
{
	return at_exit(ctx, XDP_DROP);
}

SEC("xdp")
int sluice_cap_2(struct xdp_md *ctx)
{
	return at_exit(ctx, XDP_PASS);
}

SEC("xdp")
int sluice_cap_3(struct xdp_md *ctx)
{
	return at_exit(ctx, XDP_TX);
}

SEC("xdp")
int sluice_cap_4(struct xdp_md *ctx)
{
	return at_exit(ctx, XDP_REDIRECT);
}
