/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a socket filter reads of a frame. It must not look into the packet itself, so the beginning is copied, and with it
 * the VLAN tag that the kernel has taken out of the frame goes back to where it was on the wire.
 */
#ifndef SLUICE_COPY_H
#define SLUICE_COPY_H

#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include "common.h"
#include "maps.h"

/* Enough for all but headers with many options, or a tunnel in a tunnel. */
#ifdef SLUICE_TUNNELS
#define COPY_FIRST 512
#else
#define COPY_FIRST 192
#endif
/* More than any header that is parsed. */
#define COPY_MOST 4096
/* Any 16-bit offset is in it, which is what the verifier knows of offsets. */
#define COPY_ROOM (65536 + 256)
#define TAG 4

typedef struct __sk_buff frame_ctx;

struct copy {
	__u32 length;
	__u32 start; /* 0 when there is a tag to put back, else TAG */
	__u32 word[COPY_ROOM / 4];
};

/* One row per possible CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct copy);
} copies SEC(".maps");

static __always_inline struct copy *copy_of_this_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&copies, &cpu);
}

/* Takes up to `most` bytes. */
static __always_inline bool copy_frame(frame_ctx *ctx, __u32 most)
{
	struct copy *c = copy_of_this_cpu();
	__u32 n = ctx->len;

	if (!c)
		return false;
	if (n > most)
		n = most;
	if (n > COPY_MOST)
		n = COPY_MOST;
	/* As the verifier wants to see it. */
	asm volatile("" : "+r"(n));
	if (n < ETH_HLEN || n > COPY_MOST || bpf_skb_load_bytes(ctx, 0, &c->word[1], n))
		n = 0;
	c->start = TAG;
	if (ctx->vlan_present) {
		c->word[0] = c->word[1];
		c->word[1] = c->word[2];
		c->word[2] = c->word[3];
		((__be16 *)c->word)[6] = ctx->vlan_proto;
		((__be16 *)c->word)[7] = bpf_htons(ctx->vlan_tci);
		c->start = 0;
		n = n ? n + TAG : 0;
	}
	c->length = n;
	return true;
}

static __always_inline bool frame_bounds(frame_ctx *ctx, void **data, void **end)
{
	struct copy *c = copy_of_this_cpu();

	/* Or the compiler passes to functions that only look here whatever is in the register. */
	asm volatile("" : : "r"(ctx));
	if (!c)
		return false;
	*data = (void *)c->word + (c->start & TAG);
	*end = *data + (c->length & 0x1fff);
	return true;
}

static __always_inline __u32 frame_length(frame_ctx *ctx)
{
	return ctx->len + (ctx->vlan_present ? TAG : 0);
}

#endif
