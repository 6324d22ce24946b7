// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A program with a function that another one may take the place of, as libxdp's dispatcher has them: whether the kernel does it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

__attribute__((noinline)) int sluice_place(struct xdp_md *ctx)
{
	/* Since Linux 6.13 what a program changes that takes its place (a tail call may) it has to be able to change as well. */
	return ctx && !bpf_xdp_adjust_head(ctx, 0) ? XDP_PASS : XDP_ABORTED;
}

SEC("xdp")
int sluice_caller(struct xdp_md *ctx)
{
	return sluice_place(ctx);
}
