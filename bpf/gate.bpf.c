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

static __noinline int is_power_of_ten(__u32 n)
{
	return n == 1 || n == 10 || n == 100 || n == 1000 || n == 10000 || n == 100000 || n == 1000000 ||
	       n == 10000000 || n == 100000000 || n == 1000000000;
}

static __noinline int log_event(struct sl_flow *f, __u32 event)
{
	__u32 at = __sync_fetch_and_add(&f->log_len, 1);

	if (at < 16)
		__sync_fetch_and_or(&f->log[0], (__u64)event << (at * 4));
	else if (at < SL_LOG_EVENTS)
		__sync_fetch_and_or(&f->log[1], (__u64)event << (at * 4 - 64));
	/* The last slot is taken: stop here, let user space read the log, and shunt again with an empty one. */
	if (at >= SL_LOG_EVENTS - 1)
		end_flow(f, SL_END_LOG);
	return 0;
}

static __noinline int log_scaled(struct sl_flow *f, __u32 event, __u32 *count, __u32 base)
{
	/* Atomic on any CPU: each of these is rare, and a lost one would move a letter. */
	__u32 n = __sync_fetch_and_add(count, 1) + 1;

	return is_power_of_ten(base + n) ? log_event(f, event) : 0;
}

/* An armed direction that is to be synchronized with its owner, or has been. */
static __noinline int on_sync(struct sl_dir *d, __u32 word, bool zero_window, bool rexmit)
{
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

		if (unlikely(seen & ~word) && !(__sync_fetch_and_or(&d->cpu, seen) & seen))
			log_event(f, (seen == SL_SEEN_DATA ? SL_EV_DATA : SL_EV_ACK) + side);
		if (unlikely(!p->window))
			log_scaled(f, SL_EV_ZERO_WINDOW + side, &d->zero_windows, d->base_zero_windows);
		advance_seq(d, p->seq + p->payload, own, &old);
		if (unlikely(old && p->payload))
			log_scaled(f, SL_EV_REXMIT + side, &d->rexmits, d->base_rexmits);
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

		__sync_fetch_and_add(&s->pkts, 1);
		__sync_fetch_and_add(&s->ip_bytes, p->ip_len);
		if (p->proto != IPPROTO_TCP)
			__sync_fetch_and_add(dir ? &f->log[1] : &f->log[0], p->payload);
	}
	return SL_V_SHUNTED;
}

/* ---------------------------------------------------------------- the parser */

/* The type that answers an ICMP type, or -1 when there is none (one-way): corpus rule as in Zeek's ICMP.cc. */
static __always_inline int icmp_counterpart(__u8 type)
{
	switch (type) {
	case 8: return 0;
	case 0: return 8;
	case 13: return 14;
	case 14: return 13;
	case 15: return 16;
	case 16: return 15;
	case 17: return 18;
	case 18: return 17;
	case 10: return 9;
	case 9: return 10;
	default: return -1;
	}
}

static __always_inline int icmp6_counterpart(__u8 type)
{
	switch (type) {
	case 128: return 129;
	case 129: return 128;
	case 130: return 131;
	case 131: return 130;
	case 133: return 134;
	case 134: return 133;
	case 135: return 136;
	case 136: return 135;
	case 139: return 140;
	case 140: return 139;
	case 144: return 145;
	case 145: return 144;
	default: return -1;
	}
}

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
		int other;

		if (l4 + 8 > end || l4_len < 8)
			return SL_V_PASS_PARSE;
		other = p->proto == IPPROTO_ICMP ? icmp_counterpart(icmp[0]) : icmp6_counterpart(icmp[0]);
		p->sport = bpf_htons(other < 0 ? icmp[0] | ICMP_ONE_WAY : icmp[0]);
		p->dport = bpf_htons(other < 0 ? icmp[1] : other);
		p->payload = l4_len - 8;
		return SL_V_SHUNTED;
	}
	return SL_V_PASS_OTHER;
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
	if (header < sizeof(*ip) || p.ip_len < header || p.ip_len > l3_len)
		return SL_V_PASS_PARSE;
	if (unlikely(ip->frag_off & bpf_htons(0x3fff)))
		return SL_V_PASS_FRAGMENT;
	p.proto = ip->protocol;
	if (unlikely(p.proto == IPPROTO_ICMPV6))
		return SL_V_PASS_OTHER;
	r = parse_transport(l3 + header, end, p.ip_len - header, &p);
	if (r != SL_V_SHUNTED)
		return r;

	dir = bpf_ntohl(ip->saddr) > bpf_ntohl(ip->daddr) ||
	      (ip->saddr == ip->daddr && bpf_ntohs(p.sport) > bpf_ntohs(p.dport));
	key.low_addr = dir ? ip->daddr : ip->saddr;
	key.high_addr = dir ? ip->saddr : ip->daddr;
	key.low_port = dir ? p.dport : p.sport;
	key.high_port = dir ? p.sport : p.dport;
	key.word = p.proto | vlans;
	v = bpf_map_lookup_elem(&flows4, &key);
	if (!v)
		return SL_V_PASS_NO_ENTRY;
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

static __always_inline int on_ipv6(void *l3, void *end, __u32 l3_len, __u32 vlans, __u32 cpu)
{
	struct ipv6hdr *ip = l3;
	struct packet p = {};
	struct sl_key6 key = {};
	struct sl_value6 *v;
	void *l4 = ip + 1;
	__u32 left, dir;
	int r, order;

	if (l4 > end || ip->version != 6)
		return SL_V_PASS_PARSE;
	left = bpf_ntohs(ip->payload_len);
	p.ip_len = left + sizeof(*ip);
	if (p.ip_len > l3_len)
		return SL_V_PASS_PARSE;
	p.proto = ip->nexthdr;
#pragma unroll
	for (int i = 0; i < SL_MAX_EXT_HEADERS; i++) {
		struct ipv6_ext *ext = l4;
		__u32 len;

		if (p.proto == IPPROTO_FRAGMENT)
			return SL_V_PASS_FRAGMENT;
		if (likely(p.proto != IPPROTO_HOPOPTS && p.proto != IPPROTO_ROUTING && p.proto != IPPROTO_DSTOPTS &&
			   p.proto != IPPROTO_AH))
			break;
		if ((void *)(ext + 1) > end)
			return SL_V_PASS_PARSE;
		len = p.proto == IPPROTO_AH ? (ext->len + 2) * 4 : (ext->len + 1) * 8;
		if (len > left)
			return SL_V_PASS_PARSE;
		p.proto = ext->next;
		left -= len;
		l4 += len;
	}
	if (p.proto == IPPROTO_HOPOPTS || p.proto == IPPROTO_ROUTING || p.proto == IPPROTO_DSTOPTS ||
	    p.proto == IPPROTO_AH)
		return SL_V_PASS_PARSE;
	if (p.proto == IPPROTO_FRAGMENT)
		return SL_V_PASS_FRAGMENT;
	if (unlikely(p.proto == IPPROTO_ICMP))
		return SL_V_PASS_OTHER;
	r = parse_transport(l4, end, left, &p);
	if (r != SL_V_SHUNTED)
		return r;

	order = compare6((const __u32 *)&ip->saddr, (const __u32 *)&ip->daddr);
	dir = order > 0 || (order == 0 && bpf_ntohs(p.sport) > bpf_ntohs(p.dport));
	__builtin_memcpy(key.low_addr, dir ? &ip->daddr : &ip->saddr, 16);
	__builtin_memcpy(key.high_addr, dir ? &ip->saddr : &ip->daddr, 16);
	key.low_port = dir ? p.dport : p.sport;
	key.high_port = dir ? p.sport : p.dport;
	key.word = p.proto | vlans;
	v = bpf_map_lookup_elem(&flows6, &key);
	if (!v)
		return SL_V_PASS_NO_ENTRY;
	return on_hit(&v->flow, dir, &p, cpu);
}

static __always_inline bool is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD) || proto == bpf_htons(0x9100);
}

static __always_inline int judge(struct xdp_md *ctx, __u32 len, __u32 cpu)
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
	if (likely(proto == bpf_htons(ETH_P_IP)))
		return on_ipv4(l3, end, len - header, vlans, cpu);
	if (proto == bpf_htons(ETH_P_IPV6))
		return on_ipv6(l3, end, len - header, vlans, cpu);
	return is_vlan(proto) ? SL_V_PASS_PARSE : SL_V_PASS_NOT_IP;
}

SEC("xdp.frags")
int sluice_gate(struct xdp_md *ctx)
{
	__u32 len = bpf_xdp_get_buff_len(ctx);
	__u32 cpu = bpf_get_smp_processor_id();
	__u32 verdict = judge(ctx, len, cpu);
	struct sl_ledger *mine = bpf_map_lookup_elem(&ledger, &cpu);

	if (likely(mine)) {
		struct sl_count *c = &mine->count[verdict < SL_VERDICTS ? verdict : 0];

		c->pkts++;
		c->bytes += len;
	}
	return verdict == SL_V_SHUNTED ? XDP_DROP : XDP_PASS;
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
		f->dir[i].last = now;
	}
	f->cookie = op->cookie;
}

static __noinline int arm(struct sl_op *op)
{
	__u64 now = bpf_ktime_get_ns();

	/* Somebody has to let go of an entry some day: an owner with a lease, or a time limit. */
	if (op->owner >= SL_OWNERS || (!op->owner && !op->idle_ms))
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
		WRITE_ONCE(f->dir[i].base_rexmits, op->seq[i]);
		WRITE_ONCE(f->dir[i].base_zero_windows, op->ack[i]);
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
