/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The tables of other sensors, in their own layouts (docs/adr/0036-peers.md): Zeek's with xdp-zeek, Suricata's with its XDP
 * bypass. They write entries, read counters and delete; the gate looks there when its own tables have nothing. Only in an
 * object of its own (gate_peers.bpf.c): in the others nothing of this is there at all.
 */
#ifndef SLUICE_PEERS_H
#define SLUICE_PEERS_H

#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include "address.h"
#include "maps.h"
#include "pairs.h"

#ifdef SLUICE_PEERS

const volatile __u32 cfg_zeek = 0;
const volatile __u32 cfg_suricata = 0; /* PEER_* */

#define PEER_SURICATA 1
#define PEER_SHARED 2     /* one counter for all CPUs */
#define PEER_HOST_ORDER 4 /* of its socket filter: addresses and ports in host order */

/* Ordered by the addresses as two words in the machine's order, then by port; ports in host order, 0 of ICMP. */
struct peer_zeek_key {
	__u64 ip1[2]; /* IPv4 mapped */
	__u64 ip2[2];
	__u16 port1;
	__u16 port2;
	__u16 protocol;
	__u16 outer_vlan; /* 0 unless VLAN ids belong to the key */
	__u16 inner_vlan;
	__u16 pad;
} __attribute__((packed, aligned(4)));
_Static_assert(sizeof(struct peer_zeek_key) == 44, "as in xdp-zeek");

struct peer_zeek_pair_key {
	__u64 ip1[2];
	__u64 ip2[2];
	__u16 outer_vlan;
	__u16 inner_vlan;
} __attribute__((packed, aligned(4)));
_Static_assert(sizeof(struct peer_zeek_pair_key) == 36, "as in xdp-zeek");

/* The lock is for xdp-zeek's own program, if that uses this table too: we add atomically. */
struct peer_zeek_value {
	struct bpf_spin_lock lock;
	__u32 ended; /* padding there: PEER_ENDED once a SYN, FIN or RST has passed */
	__u64 packets_from_1;
	__u64 packets_from_2;
	__u64 bytes_from_1;
	__u64 bytes_from_2;
	__u64 last; /* CLOCK_MONOTONIC ns */
};
_Static_assert(sizeof(struct peer_zeek_value) == 48, "as in xdp-zeek");

/* No value of padding that was never written is likely to be this one. */
#define PEER_ENDED 0x5e1de9d1

/* One direction each. Network order; `vlan0` = outer VLAN id << 1 | whether it is TCP (else UDP), VLAN ids in host order. */
struct peer_suricata_key4 {
	__be32 src;
	__be32 dst;
	__be16 sport;
	__be16 dport;
	__u16 vlan0;
	__u16 vlan1;
};
_Static_assert(sizeof(struct peer_suricata_key4) == 16, "as in Suricata");

struct peer_suricata_key6 {
	__be32 src[4];
	__be32 dst[4];
	__be16 sport;
	__be16 dport;
	__u16 vlan0;
	__u16 vlan1;
};
_Static_assert(sizeof(struct peer_suricata_key6) == 40, "as in Suricata");

struct peer_suricata_value {
	__u64 packets;
	__u64 bytes;
};

/* A flow in both directions, of which Suricata's values have no room to say that it has ended. */
struct peer_end_key {
	__u8 low[16];
	__u8 high[16];
	__be16 low_port;
	__be16 high_port;
	__u32 word; /* protocol | outer VLAN id << 8 | inner VLAN id << 20 */
};
_Static_assert(sizeof(struct peer_end_key) == 40, "no implicit padding");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct peer_zeek_key);
	__type(value, struct peer_zeek_value);
} shunt_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct peer_zeek_pair_key);
	__type(value, struct peer_zeek_value);
} ip_pair_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1);
	__type(key, struct peer_suricata_key4);
	__type(value, struct peer_suricata_value);
} flow_table_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1);
	__type(key, struct peer_suricata_key6);
	__type(value, struct peer_suricata_value);
} flow_table_v6 SEC(".maps");

/* Room for as many as the tables have entries; of those that are gone, the oldest go first. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct peer_end_key);
	__type(value, __u64);
} peer_ends SEC(".maps");

static __always_inline bool closes(const struct sl_packet *p)
{
	return p->proto == IPPROTO_TCP && p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST);
}

/* One of these addresses is under an exception: that wins, as it does over pairs. */
static __always_inline bool spared(const void *one, const void *other)
{
	struct sl_exception_key e = { .prefix_len = 128 };

	__builtin_memcpy(e.addr, one, 16);
	if (bpf_map_lookup_elem(&exceptions, &e))
		return true;
	__builtin_memcpy(e.addr, other, 16);
	return bpf_map_lookup_elem(&exceptions, &e);
}

static __always_inline void count_zeek(struct peer_zeek_value *v, bool from_1, __u32 bytes)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	__sync_fetch_and_add(from_1 ? &v->packets_from_1 : &v->packets_from_2, 1);
	__sync_fetch_and_add(from_1 ? &v->bytes_from_1 : &v->bytes_from_2, bytes);
	if (now > READ_ONCE(v->last))
		WRITE_ONCE(v->last, now);
}

/* Of xdp-zeek: 1 when ip1 of its key is where the packet comes from. */
static __always_inline bool zeek_order(const struct sl_packet *p, struct mapped *src, struct mapped *dst)
{
	__u64 s, d;

	__builtin_memcpy(&s, &src->word[0], 8);
	__builtin_memcpy(&d, &dst->word[0], 8);
	if (s == d) {
		__builtin_memcpy(&s, &src->word[2], 8);
		__builtin_memcpy(&d, &dst->word[2], 8);
	}
	return s != d ? s < d : bpf_ntohs(p->sport) <= bpf_ntohs(p->dport);
}

/* Not static: the verifier looks at it once. `verdict`: SL_V_PASS_NO_ENTRY of what has a key, else why it has none. */
__noinline int in_zeek(const struct sl_packet *p, const struct sl_key6 *key, int verdict)
{
	union {
		struct peer_zeek_key flow;
		struct peer_zeek_pair_key pair;
	} k = {};
	struct mapped src, dst;
	struct peer_zeek_value *v;
	__u32 vlans;
	bool from_1;

	if (!p || !key)
		return verdict;
	mapped_ends(p, key, &src, &dst);
	from_1 = zeek_order(p, &src, &dst);
	vlans = cfg_vlan_in_key ? p->vlans >> 8 : 0;
	__builtin_memcpy(k.flow.ip1, from_1 ? &src : &dst, 16);
	__builtin_memcpy(k.flow.ip2, from_1 ? &dst : &src, 16);
	if (verdict == SL_V_PASS_NO_ENTRY &&
	    (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP || p->proto == IPPROTO_ICMP)) {
		if (p->proto != IPPROTO_ICMP) {
			k.flow.port1 = bpf_ntohs(from_1 ? p->sport : p->dport);
			k.flow.port2 = bpf_ntohs(from_1 ? p->dport : p->sport);
		}
		k.flow.protocol = p->proto;
		k.flow.outer_vlan = vlans & 0xfff;
		k.flow.inner_vlan = vlans >> 12;
		v = bpf_map_lookup_elem(&shunt_map, &k);
		if (v) {
			if (READ_ONCE(v->ended) == PEER_ENDED)
				return SL_V_PASS_ENDING;
			if (spared(&src, &dst))
				return SL_V_PASS_EXCEPTION;
			if (closes(p)) {
				WRITE_ONCE(v->ended, PEER_ENDED);
				return SL_V_PASS_CLOSE;
			}
			count_zeek(v, from_1, p->frame_len);
			return SL_V_SHUNTED_PEER;
		}
	}
	k.pair.outer_vlan = vlans & 0xfff;
	k.pair.inner_vlan = vlans >> 12;
	v = bpf_map_lookup_elem(&ip_pair_map, &k);
	if (!v)
		return verdict;
	if (spared(&src, &dst))
		return SL_V_PASS_EXCEPTION;
	count_zeek(v, from_1, p->frame_len);
	return SL_V_SHUNTED_PEER;
}

/* Not static: the stack of the look-up is not in use then. */
__noinline int spared_ends(const struct sl_packet *p, const struct sl_key6 *key)
{
	struct mapped src, dst;

	if (!p || !key)
		return 0;
	mapped_ends(p, key, &src, &dst);
	return spared(&src, &dst);
}

/* Whether it has, and a note of it if it ends here. Not static either. */
__noinline int suricata_ended(const struct sl_packet *p, const struct sl_key6 *key)
{
	struct peer_end_key k = {};
	struct mapped src, dst;
	__u64 now;

	if (!p || !key)
		return 0;
	mapped_ends(p, key, &src, &dst);
	__builtin_memcpy(k.low, p->dir ? &dst : &src, 16);
	__builtin_memcpy(k.high, p->dir ? &src : &dst, 16);
	k.low_port = p->dir ? p->dport : p->sport;
	k.high_port = p->dir ? p->sport : p->dport;
	k.word = p->proto | p->vlans;
	if (bpf_map_lookup_elem(&peer_ends, &k))
		return true;
	if (closes(p)) {
		now = bpf_ktime_get_coarse_ns();
		bpf_map_update_elem(&peer_ends, &k, &now, BPF_ANY);
	}
	return false;
}

/* Not static: the verifier looks at it once. */
__noinline int in_suricata(const struct sl_packet *p, const struct sl_key6 *key)
{
	struct peer_suricata_value *v;
	struct peer_suricata_key6 k = {};

	if (!p || !key || (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP))
		return SL_V_PASS_NO_ENTRY;
	mapped_ends(p, key, (struct mapped *)k.src, (struct mapped *)k.dst);
	k.sport = p->sport;
	k.dport = p->dport;
	k.vlan0 = (p->vlans >> 8 & 0xfff) << 1 | (p->proto == IPPROTO_TCP);
	k.vlan1 = p->vlans >> 20;
	if (cfg_suricata & PEER_HOST_ORDER) {
		k.sport = bpf_ntohs(k.sport);
		k.dport = bpf_ntohs(k.dport);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			k.src[i] = bpf_ntohl(k.src[i]);
			k.dst[i] = bpf_ntohl(k.dst[i]);
		}
	}
	if (p->family == 4) {
		/* Its key is the end of the long one, but for the source, which moves up to the destination. */
		k.dst[2] = k.src[3];
		v = bpf_map_lookup_elem(&flow_table_v4, &k.dst[2]);
	} else {
		v = bpf_map_lookup_elem(&flow_table_v6, &k);
	}
	if (!v)
		return SL_V_PASS_NO_ENTRY;
	if (spared_ends(p, key))
		return SL_V_PASS_EXCEPTION;
	if (suricata_ended(p, key))
		return SL_V_PASS_ENDING;
	if (closes(p))
		return SL_V_PASS_CLOSE;
	if (cfg_suricata & PEER_SHARED) {
		__sync_fetch_and_add(&v->packets, 1);
		__sync_fetch_and_add(&v->bytes, p->frame_len);
	} else {
		v->packets++;
		v->bytes += p->frame_len;
	}
	return SL_V_SHUNTED_PEER;
}

/*
 * What no entry of our own holds back: does one of theirs? `key`: of IPv4 in the form of IPv4. Not static: the programs that
 * come here have no stack to spare.
 */
__noinline int on_peers(const struct sl_packet *p, const struct sl_key6 *key, int verdict)
{
	int found = verdict;

	if (!p || !key)
		return verdict;
	if (cfg_suricata && verdict == SL_V_PASS_NO_ENTRY)
		found = in_suricata(p, key);
	if (cfg_zeek && found == verdict && p->family)
		found = in_zeek(p, key, verdict);
	return found;
}

#endif

/* What no entry of our own holds back: does one of another sensor, a pair or a prefix? */
static __always_inline int on_others(const struct sl_packet *p, const struct sl_key6 *key, struct sl_ledger *mine,
				     int verdict)
{
#ifdef SLUICE_PEERS
	int found = on_peers(p, key, verdict);

	if (found != verdict)
		return found;
#endif
	return on_pairs(p, key, mine, verdict);
}

#endif
