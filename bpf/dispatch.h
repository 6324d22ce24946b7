/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What libxdp wants to know of a program that it loads beside others (lib/libxdp/protocol.org): in which order they run, and
 * after which of its actions the next one does. Read from BTF; libbpf leaves the section alone.
 */
#ifndef SLUICE_DISPATCH_H
#define SLUICE_DISPATCH_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Before programs that say nothing (50), which shall not see what is dropped; after xdp-filter (10). */
struct {
	__uint(priority, 20);
	__uint(XDP_PASS, 1);
} _sluice_gate SEC(".xdp_run_config");

#endif
