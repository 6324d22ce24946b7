// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What libxdp loads behind its dispatcher: goes on to the gate, whichever it is now. It stays what it is while the gate is exchanged,
 * which the kernel cannot do with a component, and lets packets pass while there is none.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The gate: one for all interfaces that share its tables. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, int);
} entry SEC(".maps");

/*
 * Of libxdp (lib/libxdp/protocol.org), which reads it from BTF: before programs that say nothing (50), which shall not see what is
 * dropped, and after xdp-filter (10); the next program runs after XDP_PASS.
 */
struct {
	__uint(priority, 20);
	__uint(XDP_PASS, 1);
} _sluice_entry SEC(".xdp_run_config");

SEC("xdp.frags")
int sluice_entry(struct xdp_md *ctx)
{
	bpf_tail_call_static(ctx, &entry, 0);
	return XDP_PASS;
}
