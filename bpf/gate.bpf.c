// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The gate: parse, look the flow up once, count and drop what is shunted, pass everything else.
 * Any doubt (cut, malformed, fragment, unknown) passes. Each packet is counted once, under one verdict.
 */
#include <asm/errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "gate.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Constants, set before loading; what is off is removed by the verifier. */
const volatile __u32 cfg_vlan_in_key = 0;
const volatile __u32 cfg_pairs = 0;    /* look for address pairs */
const volatile __u32 cfg_prefixes = 0; /* rows of the prefix list that may be in use */

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

/* xdpcap's ABI: one slot for each XDP action, called instead of returning the action. An empty slot costs nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 5);
	__type(key, int);
	__type(value, int);
} hook SEC(".maps");

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define STATE(word) ((word) & 0xff)
#define OWNER(word) ((word) >> 16)
/* A jump of the acknowledgement to 0 is believed only when it is small, as in Zeek (TCPSessionAdapter). */
#define TOO_LARGE_SEQ_DELTA 1048576

/* What the parser found out about a packet that has a key. */
struct packet {
	__u32 ip_len;  /* IP total length */
	__u32 payload; /* behind the transport header */
	__u32 seq;
	__u32 ack;
	__u16 window;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 flags; /* TCP */
};

struct vlan_tag {
	__be16 tci;
	__be16 proto;
};

struct ipv6_ext {
	__u8 next;
	__u8 len;
};

/* ---------------------------------------------------------------- changes of state */

static __always_inline void end_dir(struct sl_dir *d, __u32 reason)
{
	/* Another CPU or the syscall program may change the word at the same time, each a bounded number of times. */
	for (int i = 0; i < 4; i++) {
		__u32 old = READ_ONCE(d->state);

		if (STATE(old) == SL_ENDING)
			return;
		if (__sync_val_compare_and_swap(&d->state, old, (old & 0xffff0000U) | reason << 8 | SL_ENDING) == old)
			return;
	}
}

static __always_inline void end_flow(struct sl_flow *f, __u32 reason)
{
	end_dir(&f->dir[0], reason);
	end_dir(&f->dir[1], reason);
}

/* ---------------------------------------------------------------- history events */

__noinline int is_power_of_ten(__u32 n)
{
	return n == 1 || n == 10 || n == 100 || n == 1000 || n == 10000 || n == 100000 || n == 1000000 ||
	       n == 10000000 || n == 100000000 || n == 1000000000;
}

__noinline int log_event(struct sl_flow *f, __u32 event)
{
	__u32 at;

	if (!f)
		return 0;
	at = __sync_fetch_and_add(&f->log_len, 1);
	if (at < 16)
		__sync_fetch_and_or(&f->log[0], (__u64)event << (at * 4));
	else if (at < SL_LOG_EVENTS)
		__sync_fetch_and_or(&f->log[1], (__u64)event << (at * 4 - 64));
	/* The last slot is taken: stop here, let user space read the log, and shunt again with an empty one. */
	if (at >= SL_LOG_EVENTS - 1)
		end_flow(f, SL_END_LOG);
	return 0;
}

__noinline int log_scaled(struct sl_flow *f, __u32 event, __u32 *count)
{
	if (!f || !count)
		return 0;
	/* Atomic on any CPU: each of these is rare, and a lost one would move a letter. */
	return is_power_of_ten(__sync_fetch_and_add(count, 1) + 1) ? log_event(f, event) : 0;
}

/* An armed direction that is to be synchronized with its owner, or has been. */
__noinline int on_sync(struct sl_dir *d, __u32 word, bool zero_window, bool rexmit)
{
	if (!d)
		return 0;
	if (word & SL_SYNC_DONE) {
		if (zero_window)
			__sync_fetch_and_add(&d->zero_windows, 1);
		if (rexmit)
			__sync_fetch_and_add(&d->rexmits, 1);
	} else if ((__s32)((__u32)d->seq - d->sync_seq) > 0 || (__s32)(d->ack - d->sync_ack) > 0) {
		if (!(__sync_fetch_and_or(&d->cpu, SL_SYNC_DONE) & SL_SYNC_DONE)) {
			WRITE_ONCE(d->sync_seq, (__u32)d->seq);
			WRITE_ONCE(d->sync_ack, d->ack);
		}
	} else {
		__sync_fetch_and_or(&d->cpu, SL_SYNC_TOUCHED);
	}
	return 0;
}

/* ---------------------------------------------------------------- the hit */

static __always_inline void advance_seq(struct sl_dir *d, __u32 end, bool own, bool *old)
{
	__u64 high = READ_ONCE(d->seq);
	__s32 delta = (__s32)(end - (__u32)high);

	*old = delta <= 0;
	if (delta > 0) {
		if (likely(own))
			WRITE_ONCE(d->seq, high + delta);
		else
			__sync_val_compare_and_swap(&d->seq, high, high + delta);
	}
}

static __always_inline void advance_ack(struct sl_dir *d, const struct packet *p, bool own)
{
	__u32 high = READ_ONCE(d->ack);
	__s32 delta = (__s32)(p->ack - high);

	if (!(p->flags & TCP_ACK) || delta <= 0)
		return;
	if (unlikely(p->ack == 0 && delta > TOO_LARGE_SEQ_DELTA))
		return;
	if (likely(own))
		WRITE_ONCE(d->ack, p->ack);
	else
		__sync_val_compare_and_swap(&d->ack, high, p->ack);
}

static __always_inline bool owns(struct sl_dir *d, __u32 word, __u32 me)
{
	if (likely((word & SL_CPU_MASK) == me))
		return true;
	return !(word & SL_CPU_MASK) && __sync_val_compare_and_swap(&d->cpu, word, word | me) == word;
}

/* Decides over a packet whose flow has an entry, and keeps its books. */
static __always_inline int on_hit(struct sl_flow *f, __u32 dir, const struct packet *p, __u32 cpu)
{
	struct sl_dir *d = dir ? &f->dir[1] : &f->dir[0];
	__u32 state = READ_ONCE(d->state);
	__u32 owner = OWNER(state);
	__u64 now;

	if (unlikely(STATE(state) != SL_SHUNT && STATE(state) != SL_ARMED))
		return SL_V_PASS_ENDING;

	now = bpf_ktime_get_coarse_ns();
	if (owner) {
		__u64 *deadline = bpf_map_lookup_elem(&leases, &owner);

		if (unlikely(!deadline || READ_ONCE(*deadline) < now)) {
			end_flow(f, SL_END_LEASE);
			return SL_V_PASS_LEASE;
		}
	} else if (unlikely(now > (__u64)f->cookie * 1000000000)) {
		end_flow(f, SL_END_LIMIT);
		return SL_V_PASS_LIMIT;
	}
	if (d->idle_ms) {
		__u64 limit = (__u64)d->idle_ms * 1000000;

		/* A quiet direction is no quiet flow: only then look at the other line. */
		if (unlikely(now > READ_ONCE(d->last) + limit)) {
			struct sl_dir *o = dir ? &f->dir[0] : &f->dir[1];

			if (now > READ_ONCE(o->last) + limit) {
				end_flow(f, SL_END_IDLE);
				return SL_V_PASS_IDLE;
			}
		}
	}
	if (p->proto == IPPROTO_TCP && unlikely(p->flags & (TCP_SYN | TCP_FIN | TCP_RST))) {
		end_flow(f, p->flags & TCP_SYN ? SL_END_SYN : p->flags & TCP_RST ? SL_END_RST : SL_END_FIN);
		return SL_V_PASS_CLOSE;
	}

	__u32 word = READ_ONCE(d->cpu);
	bool own = owns(d, word, cpu + 1);
	bool old = false;

	if (STATE(state) == SL_ARMED) {
		if (p->proto == IPPROTO_TCP) {
			advance_seq(d, p->seq + p->payload, own, &old);
			advance_ack(d, p, own);
			if (word & (SL_SYNC_WAIT | SL_SYNC_DONE))
				on_sync(d, word, !p->window, old && p->payload);
		}
		WRITE_ONCE(d->last, now);
		return SL_V_PASS_ARMED;
	}

	if (p->proto == IPPROTO_TCP) {
		__u32 seen = p->payload ? SL_SEEN_DATA : p->flags & TCP_ACK ? SL_SEEN_ACK : 0;
		__u32 side = dir ? SL_EV_DIR1 : 0;

		if (unlikely(seen & ~word)) {
			__u32 was = __sync_fetch_and_or(&d->cpu, seen);

			if (was & SL_LEARN) {
				WRITE_ONCE(d->seq, p->seq);
				WRITE_ONCE(d->ack, p->ack);
				__sync_fetch_and_and(&d->cpu, ~SL_LEARN);
			}
			if (!(was & seen))
				log_event(f, (seen == SL_SEEN_DATA ? SL_EV_DATA : SL_EV_ACK) + side);
		}
		if (unlikely(!p->window))
			log_scaled(f, SL_EV_ZERO_WINDOW + side, &d->zero_windows);
		advance_seq(d, p->seq + p->payload, own, &old);
		if (unlikely(old && p->payload))
			log_scaled(f, SL_EV_REXMIT + side, &d->rexmits);
		advance_ack(d, p, own);
	}
	WRITE_ONCE(d->last, now);
	if (likely(own)) {
		if (unlikely(!d->pkts) && !READ_ONCE(f->first))
			WRITE_ONCE(f->first, now);
		WRITE_ONCE(d->pkts, d->pkts + 1);
		WRITE_ONCE(d->ip_bytes, d->ip_bytes + p->ip_len);
		if (p->proto != IPPROTO_TCP)
			WRITE_ONCE(d->seq, d->seq + p->payload);
	} else {
		struct sl_spare *s = dir ? &f->spare[1] : &f->spare[0];

		if (unlikely(!READ_ONCE(f->first)))
			WRITE_ONCE(f->first, now);
		__sync_fetch_and_add(&s->pkts, 1);
		__sync_fetch_and_add(&s->ip_bytes, p->ip_len);
		if (p->proto != IPPROTO_TCP)
			__sync_fetch_and_add(dir ? &f->log[1] : &f->log[0], p->payload);
	}
	return SL_V_SHUNTED;
}

/* ---------------------------------------------------------------- the parser */

/*
 * The same offset, of which the verifier knows no more than the mask: what follows is then verified once, and not again
 * for every number of tags or extension headers. `len` is the length of a frame, of which 40 bits are never exceeded.
 */
static __always_inline __u32 same_for_all(__u32 offset, __u64 len, __u32 mask)
{
	return (offset + (__u32)(len >> 40)) & mask;
}

/* The type that answers an ICMP type, plus one; 0 when there is none (one-way). Corpus rule as in Zeek's ICMP.cc. */
static const __u8 icmp_answer[256] = {
	[8] = 1 + 0,   [0] = 1 + 8,   [13] = 1 + 14, [14] = 1 + 13, [15] = 1 + 16,
	[16] = 1 + 15, [17] = 1 + 18, [18] = 1 + 17, [10] = 1 + 9,  [9] = 1 + 10,
};
static const __u8 icmp6_answer[256] = {
	[128] = 1 + 129, [129] = 1 + 128, [130] = 1 + 131, [131] = 1 + 130, [133] = 1 + 134, [134] = 1 + 133,
	[135] = 1 + 136, [136] = 1 + 135, [139] = 1 + 140, [140] = 1 + 139, [144] = 1 + 145, [145] = 1 + 144,
};

/* One-way types: the sender's port says so, which keeps A->B apart from B->A. */
#define ICMP_ONE_WAY 0x8000

/* Reads the transport header. Returns SL_V_SHUNTED when the packet has a key, else the verdict. */
static __always_inline int parse_transport(void *l4, void *end, __u32 l4_len, struct packet *p)
{
	if (likely(p->proto == IPPROTO_TCP)) {
		struct tcphdr *tcp = l4;
		__u32 header;

		if ((void *)(tcp + 1) > end)
			return SL_V_PASS_PARSE;
		header = tcp->doff * 4;
		if (header < sizeof(*tcp) || header > l4_len)
			return SL_V_PASS_PARSE;
		p->sport = tcp->source;
		p->dport = tcp->dest;
		p->seq = bpf_ntohl(tcp->seq);
		p->ack = bpf_ntohl(tcp->ack_seq);
		p->flags = ((__u8 *)tcp)[13];
		p->window = tcp->window;
		p->payload = l4_len - header;
		return SL_V_SHUNTED;
	}
	if (p->proto == IPPROTO_UDP) {
		struct udphdr *udp = l4;
		__u32 len;

		if ((void *)(udp + 1) > end)
			return SL_V_PASS_PARSE;
		len = bpf_ntohs(udp->len);
		if (len < sizeof(*udp) || len > l4_len)
			return SL_V_PASS_PARSE;
		p->sport = udp->source;
		p->dport = udp->dest;
		p->payload = len - sizeof(*udp);
		return SL_V_SHUNTED;
	}
	if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6) {
		__u8 *icmp = l4;
		__u32 answer;

		if (l4 + 8 > end || l4_len < 8)
			return SL_V_PASS_PARSE;
		answer = p->proto == IPPROTO_ICMP ? icmp_answer[icmp[0]] : icmp6_answer[icmp[0]];
		p->sport = bpf_htons(answer ? icmp[0] : icmp[0] | ICMP_ONE_WAY);
		p->dport = bpf_htons(answer ? answer - 1 : icmp[1]);
		p->payload = l4_len - 8;
		return SL_V_SHUNTED;
	}
	if (p->proto == IPPROTO_SCTP) {
		struct udphdr *ports = l4; /* SCTP begins with the same two ports */

		if (l4 + 12 > end || l4_len < 12)
			return SL_V_PASS_PARSE;
		p->sport = ports->source;
		p->dport = ports->dest;
		p->payload = l4_len - 12;
		return SL_V_SHUNTED;
	}
	/* Carriers of other packets, and what belongs to the network itself. */
	if (p->proto == IPPROTO_IPIP || p->proto == IPPROTO_IPV6 || p->proto == IPPROTO_GRE || p->proto == IPPROTO_IGMP ||
	    p->proto == IPPROTO_NONE)
		return SL_V_PASS_OTHER;
	/* By address and protocol alone. */
	p->payload = l4_len;
	return SL_V_SHUNTED;
}

/* ---------------------------------------------------------------- pairs and prefixes */

/* The addresses of a packet, mapped, and what is needed to count it. */
struct ends {
	struct sl_exception_key src;
	struct sl_exception_key dst;
	__u32 ip_len;
	__u32 vlans;
};

static __always_inline void map_address(struct sl_exception_key *to, __be32 addr)
{
	__u32 *words = (__u32 *)to->addr;

	to->prefix_len = 128;
	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = addr;
}

static __always_inline int compare6(const __u32 *a, const __u32 *b);

static __always_inline bool pair_alive(const struct sl_pair *p, __u64 now)
{
	__u32 owner = p->owner;

	if (p->limit && now > (__u64)p->limit * 1000000000)
		return false;
	if (owner) {
		__u64 *deadline = bpf_map_lookup_elem(&leases, &owner);

		return deadline && READ_ONCE(*deadline) >= now;
	}
	return p->limit != 0;
}

static __always_inline void count_pair(struct sl_pair *p, __u32 dir, __u32 ip_len, __u64 now)
{
	struct sl_pair_count *c = dir ? &p->count[1] : &p->count[0];

	__sync_fetch_and_add(&c->pkts, 1);
	__sync_fetch_and_add(&c->ip_bytes, ip_len);
	WRITE_ONCE(c->last, now);
}

static __always_inline bool in_prefix(const __u8 *addr, const __u8 *net, __u32 len)
{
	const __u32 *a = (const __u32 *)addr;
	const __u32 *n = (const __u32 *)net;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u32 bits = len > (__u32)i * 32 ? len - i * 32 : 0;
		__u32 mask = bits >= 32 ? 0xffffffff : bits ? bpf_htonl(0xffffffffU << (32 - bits)) : 0;

		if ((a[i] ^ n[i]) & mask)
			return false;
	}
	return true;
}

struct search {
	const struct ends *e;
	__u64 now;
	__u32 found; /* 1 + direction */
};

static long one_prefix(__u32 i, void *data)
{
	struct search *s = data;
	struct sl_prefix_pair *p = bpf_map_lookup_elem(&prefixes, &i);
	__u32 dir;

	if (!p)
		return 1;
	if (!p->used || !pair_alive(&p->pair, s->now))
		return 0;
	if (in_prefix(s->e->src.addr, p->a, p->a_len) && in_prefix(s->e->dst.addr, p->b, p->b_len))
		dir = 0;
	else if (in_prefix(s->e->src.addr, p->b, p->b_len) && in_prefix(s->e->dst.addr, p->a, p->a_len))
		dir = 1;
	else
		return 0;
	s->found = 1 + dir;
	/* Exceptions win: then it is not counted either. */
	if (!bpf_map_lookup_elem(&exceptions, &s->e->src) && !bpf_map_lookup_elem(&exceptions, &s->e->dst))
		count_pair(&p->pair, dir, s->e->ip_len, s->now);
	else
		s->found = 3;
	return 1;
}

/* A packet that no flow entry holds back: does a pair or a prefix? Returns `verdict` if not. */
static __noinline int on_pairs(const struct ends *e, int verdict)
{
	const __u32 *src = (const __u32 *)e->src.addr;
	const __u32 *dst = (const __u32 *)e->dst.addr;
	__u64 now = bpf_ktime_get_coarse_ns();

	if (cfg_pairs) {
		struct sl_pair_key key = {};
		__u32 dir = compare6(src, dst) > 0;
		struct sl_pair *p;

		__builtin_memcpy(key.low_addr, dir ? dst : src, 16);
		__builtin_memcpy(key.high_addr, dir ? src : dst, 16);
		key.vlans = e->vlans;
		p = bpf_map_lookup_elem(&pairs, &key);
		if (p && pair_alive(p, now)) {
			if (bpf_map_lookup_elem(&exceptions, &e->src) || bpf_map_lookup_elem(&exceptions, &e->dst))
				return SL_V_PASS_EXCEPTION;
			count_pair(p, dir, e->ip_len, now);
			return SL_V_SHUNTED_PAIR;
		}
	}
	if (cfg_prefixes) {
		struct search s = { .e = e, .now = now };

		bpf_loop(cfg_prefixes, one_prefix, &s, 0);
		if (s.found)
			return s.found == 3 ? SL_V_PASS_EXCEPTION : SL_V_SHUNTED_PAIR;
	}
	return verdict;
}

static __always_inline int pairs4(const struct iphdr *ip, const struct packet *p, __u32 vlans, int verdict)
{
	struct ends e;

	if (!cfg_pairs && !cfg_prefixes)
		return verdict;
	map_address(&e.src, ip->saddr);
	map_address(&e.dst, ip->daddr);
	e.ip_len = p->ip_len;
	e.vlans = vlans;
	return on_pairs(&e, verdict);
}

static __always_inline int pairs6(const struct ipv6hdr *ip, const struct packet *p, __u32 vlans, int verdict)
{
	struct ends e;

	if (!cfg_pairs && !cfg_prefixes)
		return verdict;
	e.src.prefix_len = 128;
	e.dst.prefix_len = 128;
	__builtin_memcpy(e.src.addr, &ip->saddr, 16);
	__builtin_memcpy(e.dst.addr, &ip->daddr, 16);
	e.ip_len = p->ip_len;
	e.vlans = vlans;
	return on_pairs(&e, verdict);
}

static __always_inline int on_ipv4(void *l3, void *end, __u32 l3_len, __u32 vlans, __u32 cpu)
{
	struct iphdr *ip = l3;
	struct packet p = {};
	struct sl_key4 key;
	struct sl_value4 *v;
	__u32 header, dir;
	int r;

	if ((void *)(ip + 1) > end || ip->version != 4)
		return SL_V_PASS_PARSE;
	header = ip->ihl * 4;
	p.ip_len = bpf_ntohs(ip->tot_len);
	if (header < sizeof(*ip) || p.ip_len < header)
		return SL_V_PASS_PARSE;
	if (unlikely(p.ip_len > l3_len))
		return pairs4(ip, &p, vlans, SL_V_PASS_PARSE);
	if (unlikely(ip->frag_off & bpf_htons(0x3fff)))
		return pairs4(ip, &p, vlans, SL_V_PASS_FRAGMENT);
	p.proto = ip->protocol;
	if (unlikely(p.proto == IPPROTO_ICMPV6))
		return pairs4(ip, &p, vlans, SL_V_PASS_OTHER);
	r = parse_transport(l3 + header, end, p.ip_len - header, &p);
	if (r != SL_V_SHUNTED)
		return pairs4(ip, &p, vlans, r);

	dir = bpf_ntohl(ip->saddr) > bpf_ntohl(ip->daddr) ||
	      (ip->saddr == ip->daddr && bpf_ntohs(p.sport) > bpf_ntohs(p.dport));
	key.low_addr = dir ? ip->daddr : ip->saddr;
	key.high_addr = dir ? ip->saddr : ip->daddr;
	key.low_port = dir ? p.dport : p.sport;
	key.high_port = dir ? p.sport : p.dport;
	key.word = p.proto | vlans;
	v = bpf_map_lookup_elem(&flows4, &key);
	if (!v)
		return pairs4(ip, &p, vlans, SL_V_PASS_NO_ENTRY);
	return on_hit(&v->flow, dir, &p, cpu);
}

/* memcmp order of two addresses: -1, 0 or 1. */
static __always_inline int compare6(const __u32 *a, const __u32 *b)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (a[i] != b[i])
			return bpf_ntohl(a[i]) < bpf_ntohl(b[i]) ? -1 : 1;
	return 0;
}

static __always_inline int on_ipv6(void *l3, void *end, __u32 l3_len, __u64 len, __u32 vlans, __u32 cpu)
{
	struct ipv6hdr *ip = l3;
	struct packet p = {};
	struct sl_key6 key = {};
	struct sl_value6 *v;
	__u32 left, dir, l4 = sizeof(*ip);
	int r, order;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return SL_V_PASS_PARSE;
	left = bpf_ntohs(ip->payload_len);
	p.ip_len = left + sizeof(*ip);
	if (unlikely(p.ip_len > l3_len))
		return pairs6(ip, &p, vlans, SL_V_PASS_PARSE);
	p.proto = ip->nexthdr;
#pragma unroll
	for (int i = 0; i < SL_MAX_EXT_HEADERS; i++) {
		struct ipv6_ext *ext = l3 + l4;
		__u32 size;

		if (p.proto == IPPROTO_FRAGMENT)
			return pairs6(ip, &p, vlans, SL_V_PASS_FRAGMENT);
		if (likely(p.proto != IPPROTO_HOPOPTS && p.proto != IPPROTO_ROUTING && p.proto != IPPROTO_DSTOPTS &&
			   p.proto != IPPROTO_AH))
			break;
		if ((void *)(ext + 1) > end)
			return SL_V_PASS_PARSE;
		size = p.proto == IPPROTO_AH ? (ext->len + 2) * 4 : (ext->len + 1) * 8;
		if (size > left)
			return SL_V_PASS_PARSE;
		/* Source routed (RFC 5095): the destination of the flow is not the one in the header. */
		if (unlikely(p.proto == IPPROTO_ROUTING)) {
			__u8 *routing = (void *)ext;

			if ((void *)(routing + 4) > end || (routing[2] == 0 && routing[3] != 0))
				return SL_V_PASS_PARSE;
		}
		p.proto = ext->next;
		left -= size;
		l4 += size;
	}
	if (p.proto == IPPROTO_HOPOPTS || p.proto == IPPROTO_ROUTING || p.proto == IPPROTO_DSTOPTS ||
	    p.proto == IPPROTO_AH)
		return SL_V_PASS_PARSE;
	if (p.proto == IPPROTO_FRAGMENT)
		return pairs6(ip, &p, vlans, SL_V_PASS_FRAGMENT);
	if (unlikely(p.proto == IPPROTO_ICMP))
		return pairs6(ip, &p, vlans, SL_V_PASS_OTHER);
	l4 = same_for_all(l4, len, 0x3fff);
	r = parse_transport(l3 + l4, end, left, &p);
	if (r != SL_V_SHUNTED)
		return pairs6(ip, &p, vlans, r);

	order = compare6((const __u32 *)&ip->saddr, (const __u32 *)&ip->daddr);
	dir = order > 0 || (order == 0 && bpf_ntohs(p.sport) > bpf_ntohs(p.dport));
	__builtin_memcpy(key.low_addr, dir ? &ip->daddr : &ip->saddr, 16);
	__builtin_memcpy(key.high_addr, dir ? &ip->saddr : &ip->daddr, 16);
	key.low_port = dir ? p.dport : p.sport;
	key.high_port = dir ? p.sport : p.dport;
	key.word = p.proto | vlans;
	v = bpf_map_lookup_elem(&flows6, &key);
	if (!v)
		return pairs6(ip, &p, vlans, SL_V_PASS_NO_ENTRY);
	return on_hit(&v->flow, dir, &p, cpu);
}

static __always_inline bool is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD) || proto == bpf_htons(0x9100);
}

static __always_inline int judge(struct xdp_md *ctx, __u64 len, __u32 cpu)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	void *l3 = eth + 1;
	__u32 vlans = 0, header = sizeof(*eth);
	__be16 proto;

	if (l3 > end)
		return SL_V_PASS_PARSE;
	proto = eth->h_proto;
#pragma unroll
	for (int i = 0; i < SL_MAX_TAGS; i++) {
		struct vlan_tag *tag = l3;
		__u32 id;

		if (likely(!is_vlan(proto)))
			break;
		if ((void *)(tag + 1) > end)
			return SL_V_PASS_PARSE;
		/* The two outermost tags with an id count; a priority tag is no tag. */
		id = bpf_ntohs(tag->tci) & 0x0fff;
		if (cfg_vlan_in_key && id) {
			if (!(vlans & 0x000fff00))
				vlans |= id << 8;
			else if (!(vlans & 0xfff00000))
				vlans |= id << 20;
		}
		proto = tag->proto;
		l3 = tag + 1;
		header += sizeof(*tag);
	}
	header = same_for_all(header, len, 31);
	l3 = data + header;
	if (likely(proto == bpf_htons(ETH_P_IP)))
		return on_ipv4(l3, end, len - header, vlans, cpu);
	if (proto == bpf_htons(ETH_P_IPV6))
		return on_ipv6(l3, end, len - header, len, vlans, cpu);
	return is_vlan(proto) ? SL_V_PASS_PARSE : SL_V_PASS_NOT_IP;
}

SEC("xdp.frags")
int sluice_gate(struct xdp_md *ctx)
{
	__u64 len = bpf_xdp_get_buff_len(ctx);
	__u32 cpu = bpf_get_smp_processor_id();
	__u32 verdict = judge(ctx, len, cpu);
	struct sl_ledger *mine = bpf_map_lookup_elem(&ledger, &cpu);

	if (likely(mine)) {
		struct sl_count *c = &mine->count[verdict < SL_VERDICTS ? verdict : 0];

		c->pkts++;
		c->bytes += len;
	}
	int action = verdict == SL_V_SHUNTED || verdict == SL_V_SHUNTED_PAIR ? XDP_DROP : XDP_PASS;

	bpf_tail_call(ctx, &hook, action);
	return action;
}

/* ---------------------------------------------------------------- changes asked for by user space */

static __always_inline struct sl_flow *find(struct sl_op *op)
{
	struct sl_value4 *v4;
	struct sl_value6 *v6;

	if (op->family == 4) {
		v4 = bpf_map_lookup_elem(&flows4, op->key);
		return v4 ? &v4->flow : 0;
	}
	v6 = bpf_map_lookup_elem(&flows6, op->key);
	if (!v6)
		return 0;
	/* Keep the compiler from adding the offset before the test: the verifier wants it after. */
	asm volatile("" : "+r"(v6));
	return &v6->flow;
}

static __always_inline void init_flow(struct sl_flow *f, const struct sl_op *op, __u64 now)
{
	for (int i = 0; i < 2; i++) {
		f->dir[i].state = SL_ARMED | op->owner << 16;
		f->dir[i].seq = op->seq[i];
		f->dir[i].ack = op->ack[i];
		f->dir[i].idle_ms = op->idle_ms;
		f->dir[i].cpu = op->owner ? 0 : SL_LEARN;
		f->dir[i].last = now;
	}
	f->cookie = op->cookie;
}

static __noinline int arm(struct sl_op *op)
{
	__u64 now = bpf_ktime_get_ns();

	/* Somebody has to let go of an entry some day: an owner with a lease, or a time limit. */
	if (op->owner >= SL_OWNERS || (!op->owner && !op->cookie))
		return -EINVAL;
	if (op->family == 4) {
		struct sl_value4 v4 = {};

		init_flow(&v4.flow, op, now);
		return bpf_map_update_elem(&flows4, op->key, &v4, BPF_NOEXIST);
	}
	struct sl_value6 v6 = {};

	init_flow(&v6.flow, op, now);
	return bpf_map_update_elem(&flows6, op->key, &v6, BPF_NOEXIST);
}

static __always_inline bool behind(__u32 mine, __u32 theirs)
{
	return (__s32)(mine - theirs) < 0;
}

/* Sets the mark at which both sides begin to count, once the entry has caught up with its owner. */
static __noinline int sync(struct sl_op *op)
{
	struct sl_flow *f = find(op);

	if (!f)
		return -ENOENT;
	for (int i = 0; i < 2; i++)
		if (behind(f->dir[i].seq, op->seq[i]) || behind(f->dir[i].ack, op->ack[i]))
			return -EAGAIN;
	for (int i = 0; i < 2; i++) {
		struct sl_dir *d = &f->dir[i];

		__sync_fetch_and_and(&d->cpu, ~(SL_SYNC_WAIT | SL_SYNC_TOUCHED | SL_SYNC_DONE));
		WRITE_ONCE(d->rexmits, 0);
		WRITE_ONCE(d->zero_windows, 0);
		op->seq[i] = READ_ONCE(d->seq);
		op->ack[i] = READ_ONCE(d->ack);
		WRITE_ONCE(d->sync_seq, op->seq[i]);
		WRITE_ONCE(d->sync_ack, op->ack[i]);
		__sync_fetch_and_or(&d->cpu, SL_SYNC_WAIT);
	}
	return 0;
}

static __noinline int flip(struct sl_op *op)
{
	struct sl_flow *f = find(op);
	bool lost = false;

	if (!f)
		return -ENOENT;
	for (int i = 0; i < 2; i++) {
		__sync_fetch_and_add(&f->dir[i].rexmits, op->seq[i]);
		__sync_fetch_and_add(&f->dir[i].zero_windows, op->ack[i]);
	}
	for (int i = 0; i < 2; i++) {
		__u32 old = READ_ONCE(f->dir[i].state);

		if (STATE(old) != SL_ARMED ||
		    __sync_val_compare_and_swap(&f->dir[i].state, old, (old & ~0xffU) | SL_SHUNT) != old)
			lost = true;
	}
	/* A FIN, RST or SYN came in between: it has ended the one direction that it found, end the other as well. */
	if (lost || STATE(READ_ONCE(f->dir[0].state)) == SL_ENDING || STATE(READ_ONCE(f->dir[1].state)) == SL_ENDING) {
		end_flow(f, SL_END_ASKED);
		return -ECANCELED;
	}
	return 0;
}

static __noinline int end(struct sl_op *op)
{
	struct sl_flow *f = find(op);

	if (!f)
		return -ENOENT;
	end_flow(f, SL_END_ASKED);
	return 0;
}

/* Ends without a touch of the counters: they are read after a grace period, and then the row is freed. */
static __noinline int end_pair(struct sl_op *op)
{
	struct sl_pair *p = bpf_map_lookup_elem(&pairs, op->key);

	if (!p)
		return -ENOENT;
	WRITE_ONCE(p->owner, 0);
	WRITE_ONCE(p->limit, 1);
	return 0;
}

static __noinline int end_prefix(struct sl_op *op)
{
	__u32 row = op->cookie;
	struct sl_prefix_pair *p = bpf_map_lookup_elem(&prefixes, &row);

	if (!p)
		return -ENOENT;
	WRITE_ONCE(p->used, 0);
	return 0;
}

static long one_op(__u32 i, void *data)
{
	struct sl_ops_range *range = data;
	__u32 at = range->first + i;
	struct sl_op *op = bpf_map_lookup_elem(&ops, &at);
	struct sl_flow *f;

	if (!op)
		return 1;
	switch (op->code) {
	case SL_OP_ARM: op->result = arm(op); break;
	case SL_OP_SYNC: op->result = sync(op); break;
	case SL_OP_FLIP: op->result = flip(op); break;
	case SL_OP_END: op->result = end(op); break;
	case SL_OP_PAIR_END: op->result = end_pair(op); break;
	case SL_OP_PREFIX_END: op->result = end_prefix(op); break;
	default: op->result = -EINVAL;
	}
	f = find(op);
	op->state[0] = f ? f->dir[0].state : 0;
	op->state[1] = f ? f->dir[1].state : 0;
	range->done = i + 1;
	return 0;
}

/* The only writer of live entries outside the packet path: works through ops[first .. first + count). */
SEC("syscall")
int sluice_ops(struct sl_ops_range *ctx)
{
	struct sl_ops_range range = { .first = ctx->first, .count = ctx->count };

	bpf_loop(range.count, one_op, &range, 0);
	ctx->done = range.done;
	return 0;
}
