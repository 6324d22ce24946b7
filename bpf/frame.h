/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The length of the whole frame, of which only the first buffer lies between data and data_end. */
#ifndef SLUICE_FRAME_H
#define SLUICE_FRAME_H

#include "common.h"
#include "maps.h"

/* Of the kernel's own description of the frame (include/net/xdp.h), what we look at. */
struct xdp_buff {
	__u32 flags;
} __attribute__((preserve_access_index));

#define XDP_FLAGS_HAS_FRAGS 1

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

/* The helper is a call, and dear on some CPUs; whether there is more than one buffer is a bit. */
static __always_inline __u32 frame_length(struct xdp_md *ctx)
{
	if (cfg_kernel_context) {
		struct xdp_buff *kernel = bpf_cast_to_kern_ctx(ctx);

		if (likely(!(kernel->flags & XDP_FLAGS_HAS_FRAGS)))
			return (long)ctx->data_end - (long)ctx->data;
	}
	return bpf_xdp_get_buff_len(ctx);
}

#endif
