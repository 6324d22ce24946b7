/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The tables of the gate, and the constants that user space sets before loading: the verifier removes what is off. */
#ifndef SLUICE_MAPS_H
#define SLUICE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "gate.h"

const volatile __u32 cfg_vlan_in_key = 0;
const volatile __u32 cfg_kernel_context = 0; /* bpf_cast_to_kern_ctx may be called: Linux 6.2 */
const volatile __u32 cfg_pairs = 0;    /* look for address pairs */
const volatile __u32 cfg_prefixes = 0; /* rows of the prefix list that may be in use */
const volatile __u32 cfg_rules = 0;    /* ask the rules before shunting */
const volatile __u32 cfg_fragments = 0; /* fragments follow their flow */
const volatile __u32 cfg_trace = 0;    /* SL_TELL_*: those who trace what matches trace_filter, captures at the hook */

/* An object of its own as well (gate_peers.bpf.c): look in the tables of other sensors. */
#ifdef SLUICE_PEERS
#define cfg_peers 1
#else
#define cfg_peers 0
#endif

/* An object of its own (gate_tunnels.bpf.c): in the other one nothing of this is there at all. */
#ifdef SLUICE_TUNNELS
const volatile __u32 cfg_tunnels = 0; /* SL_TUNNEL_*: what is looked into */
const volatile __u32 cfg_tunnel_in_key = 0;
const volatile __be16 cfg_vxlan_ports[SL_TUNNEL_PORTS] = {}; /* all of them filled in */
const volatile __be16 cfg_geneve_ports[SL_TUNNEL_PORTS] = {};
const volatile __u32 cfg_mirror = 0; /* only what is in mirrors that end at this host */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_way);
} way SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct sl_mirror_key);
	__type(value, struct sl_mirror);
} mirrors SEC(".maps");
#else
#define cfg_tunnels 0
#endif

/* Objects of their own as well (gate_watch.bpf.c, gate_tunnels_watch.bpf.c). */
#if defined(SLUICE_WATCH) && !defined(SLUICE_SOCKET_FILTER)
const volatile __u32 cfg_watch = 0; /* 1: flows without an entry are watched; 3: TLS as well */
#else
#define cfg_watch 0
#endif

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct sl_key4);
	__type(value, struct sl_value4);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct sl_key6);
	__type(value, struct sl_value6);
} flows6 SEC(".maps");

/* Deadline per owner, CLOCK_MONOTONIC ns. Owner 0 has no lease. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SL_OWNERS);
	__type(key, __u32);
	__type(value, __u64);
} leases SEC(".maps");

/* One row per possible CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_ledger);
} ledger SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct sl_op);
} ops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_meta);
} meta SEC(".maps");

/* Room is taken as it is used. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct sl_side_key);
	__type(value, struct sl_side);
} side SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct sl_pair_key);
	__type(value, struct sl_pair);
} pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_prefix_pair);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct sl_exception_key);
	__type(value, __u32);
} exceptions SEC(".maps");

/* Least recently used out: somebody else's fragments may take the place of ours, which then pass. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, struct sl_fragment_key);
	__type(value, struct sl_fragment);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
} trace SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sl_trace_filter);
} trace_filter SEC(".maps");

/* xdpcap's ABI: one slot for each XDP action, called instead of returning the action. An empty slot costs nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 5);
	__type(key, int);
	__type(value, int);
} hook SEC(".maps");

/* What runs after our pass verdict; not while a capture sits in the hook's slot for it. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, int);
} next SEC(".maps");

#include "rule-slots.h"

#endif
