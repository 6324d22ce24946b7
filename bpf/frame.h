/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Where the parsers find a frame, and its length. They ask for both ends once in each function that is not inlined, and
 * know nothing else of the program type: XDP reads the frame where it lies, and only its first buffer; a socket filter
 * reads a copy of its beginning (copy.h).
 */
#ifndef SLUICE_FRAME_H
#define SLUICE_FRAME_H

#include "common.h"
#include "maps.h"

#ifdef SLUICE_SOCKET_FILTER
#include "copy.h"
#else

typedef struct xdp_md frame_ctx;

/* What can be read of the frame: from `data` up to `end`. False: nothing. */
static __always_inline bool frame_bounds(frame_ctx *ctx, void **data, void **end)
{
	*data = (void *)(long)ctx->data;
	*end = (void *)(long)ctx->data_end;
	return true;
}

/* Of the kernel's own description of the frame (include/net/xdp.h), what we look at. */
struct xdp_buff {
	__u32 flags;
} __attribute__((preserve_access_index));

#define XDP_FLAGS_HAS_FRAGS 1

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

/* The helper is a call, and dear on some CPUs; whether there is more than one buffer is a bit. */
static __always_inline __u32 frame_length(frame_ctx *ctx)
{
	if (cfg_kernel_context) {
		struct xdp_buff *kernel = bpf_cast_to_kern_ctx(ctx);

		if (likely(!(kernel->flags & XDP_FLAGS_HAS_FRAGS)))
			return (long)ctx->data_end - (long)ctx->data;
	}
	return bpf_xdp_get_buff_len(ctx);
}

#endif

#endif
