// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Passes everything. A veth port with an XDP program takes its frames from a ring that pushes back on the
 * sender's queue; without one they go through the CPU's backlog, which drops when it is full.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("xdp.frags")
int lab_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}
