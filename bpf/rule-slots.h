/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps that the gate shares with the programs in its rules slot. */
#ifndef SLUICE_RULE_SLOTS_H
#define SLUICE_RULE_SLOTS_H

#include <bpf/bpf_helpers.h>
#include "gate.h"

/* enum sl_rules_slot. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, SL_RULES_SLOTS);
	__type(key, int);
	__type(value, int);
} rules SEC(".maps");

/* What was parsed of the packet that this CPU is at, for the programs that the gate goes on to. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_packet);
} scratch SEC(".maps");

#endif
