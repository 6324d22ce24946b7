/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Samples of what comes in, whatever becomes of it: taken on the way out, where the verdict is known, and before a drop. A
 * ring that is full loses the sample, never the packet.
 */
#ifndef SLUICE_SAMPLE_H
#define SLUICE_SAMPLE_H

#include "common.h"
#include "maps.h"

#define SAMPLE_PIECE 64
/* What a sample has room for: one whole frame of what is no jumbo frame, and more. */
#define SAMPLE_MOST 2048

/* By the lower bits of the interface's index: every how many packets, and how many bytes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SL_SAMPLED_INTERFACES);
	__type(key, __u32);
	__type(value, struct sl_sampling);
} sampling SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SL_SAMPLED_INTERFACES);
	__type(key, __u32);
	__type(value, struct sl_sampler);
} samplers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} samples SEC(".maps");

static __always_inline bool copy_sample(struct xdp_md *ctx, struct bpf_dynptr *room, __u32 len)
{
	__u32 at = 0;

	for (int i = 0; i < SAMPLE_MOST / SAMPLE_PIECE; i++) {
		__u32 left = len - at;
		void *piece;

		if (at >= len)
			break;
		if (left > SAMPLE_PIECE)
			left = SAMPLE_PIECE;
		piece = bpf_dynptr_data(room, sizeof(struct sl_gate_sample) + at, SAMPLE_PIECE);
		if (!piece || bpf_xdp_load_bytes(ctx, at, piece, one_to(SAMPLE_PIECE, left)))
			return false;
		at += SAMPLE_PIECE;
	}
	return true;
}

static __noinline int fill_sample(struct sl_gate_sample *head, const struct sl_packet *p, __u32 verdict, __u32 every)
{
	head->time = bpf_ktime_get_ns();
	head->frame_len = p->frame_len;
	head->every = every;
	head->verdict = verdict;
	if (verdict == SL_V_RULE_DROPPED || verdict == SL_V_RATE_LIMITED)
		head->rule = p->rule;
	return 0;
}

/* Whether there was room. Not static: the verifier looks at it once, not once for each way out. */
__noinline int put_sample(struct xdp_md *ctx, const struct sl_packet *p, __u32 verdict, __u32 every, __u32 size)
{
	struct sl_gate_sample head = {};
	struct bpf_dynptr room;
	__u32 len;

	if (!p)
		return 0;
	fill_sample(&head, p, verdict, every);
	len = head.frame_len;
	if (size > SAMPLE_MOST)
		size = SAMPLE_MOST;
	if (len > size)
		len = size;
	head.captured = len;
	head.ifindex = ctx->ingress_ifindex;
	if (bpf_ringbuf_reserve_dynptr(&samples, sizeof(head) + (len + SAMPLE_PIECE - 1) / SAMPLE_PIECE * SAMPLE_PIECE, 0,
				       &room) ||
	    bpf_dynptr_write(&room, 0, &head, sizeof(head), 0) || !copy_sample(ctx, &room, len)) {
		bpf_ringbuf_discard_dynptr(&room, BPF_RB_NO_WAKEUP);
		return 0;
	}
	/* Whoever reads comes by himself, often enough. */
	bpf_ringbuf_submit_dynptr(&room, BPF_RB_NO_WAKEUP);
	return 1;
}

__noinline int sample(struct xdp_md *ctx, const struct sl_packet *p, __u32 verdict)
{
	__u32 row = ctx->ingress_ifindex & (SL_SAMPLED_INTERFACES - 1);
	struct sl_sampling *how = bpf_map_lookup_elem(&sampling, &row);
	struct sl_sampler *mine = bpf_map_lookup_elem(&samplers, &row);
	__u64 tick;
	__u32 every;

	if (!(cfg_trace & SL_TELL_SAMPLES) || !p || !how || !mine)
		return 0;
	every = READ_ONCE(how->every);
	if (!every)
		return 0;
	/* Less often before than now: what was to be passed over is too much. */
	if (mine->left >= 2 * (__u64)every)
		mine->left = every;
	if (mine->left) {
		mine->left--;
		return 0;
	}
	/* By chance, so that nothing that comes at regular intervals is always or never met; every so many on average. */
	mine->left = every > 1 ? bpf_get_prandom_u32() % (2 * (__u64)every - 1) : 0;
	tick = bpf_ktime_get_coarse_ns();
	if (tick != mine->tick) {
		mine->tick = tick;
		mine->used = 0;
	}
	if (mine->used >= READ_ONCE(how->most)) {
		mine->over++;
		mine->missed_bytes += p->frame_len;
		return 0;
	}
	mine->used++;
	if (put_sample(ctx, p, verdict, every, READ_ONCE(how->size))) {
		mine->taken++;
		mine->taken_bytes += p->frame_len;
	} else {
		mine->lost++;
		mine->missed_bytes += p->frame_len;
	}
	return 0;
}

#endif
