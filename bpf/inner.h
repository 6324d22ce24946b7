/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Inside of tunnels. Each tunnel is opened in a program of its own (slot SL_RULES_INNER), which the one before goes on to
 * with what it has found in `scratch` and `way`: so none of this is in the program that every packet meets, nested tunnels
 * are as many runs of the same program, and the verifier looks at it once.
 */
#ifndef SLUICE_INNER_H
#define SLUICE_INNER_H

#include "carriers.h"
#include "ipv4.h"
#include "ipv6.h"
#include "shunt.h"
#include "tunnel.h"

/* Tells tunnels apart, in any order of their ends: the same as in src/flow/tie.ts. */
static __always_inline __u32 mix(__u32 tie, __u32 word)
{
	tie = (tie ^ word) * 0x9e3779b1U;
	return tie ^ tie >> 15;
}

static __always_inline __u32 mix_words(__u32 tie, const void *key, __u32 words)
{
	for (__u32 i = 0; i < words; i++)
		tie = mix(tie, ((const __u32 *)key)[i]);
	return tie ? tie : 1;
}

/* IPv4 with tunnel ids has the long form of a key. */
static __always_inline void widen(struct sl_packet *p, struct sl_key6 *key, const struct sl_way *w)
{
	struct sl_key4 narrow;

	if (p->family == 4 && (w->vxlan || w->geneve)) {
		__builtin_memcpy(&narrow, key, sizeof(narrow));
		map4((struct mapped *)key->low_addr, narrow.low_addr);
		map4((struct mapped *)key->high_addr, narrow.high_addr);
		key->low_port = narrow.low_port;
		key->high_port = narrow.high_port;
		key->word = narrow.word;
		p->flags |= SL_P_WIDE;
	}
	if (p->family == 6 || p->flags & SL_P_WIDE) {
		key->vxlan = w->vxlan;
		key->geneve = w->geneve;
	}
}

/* Not static: the verifier looks at it once. What `p` is carries a packet; false: there are too many around one another. */
__noinline int note_tunnel(struct sl_way *w, struct sl_packet *p, struct sl_key6 *key, __u32 kind)
{
	bool narrow;

	if (!w || !p || !key || w->depth >= SL_MAX_TUNNELS)
		return 0;
	w->kind = kind;
	w->depth++;
	if (kind & (SL_TUNNEL_GRE | SL_TUNNEL_IPIP)) {
		w->tie = p->family == 4 ? mix_words(w->tie, key, 2) : mix_words(w->tie, key, 8);
		return 1;
	}
	widen(p, key, w);
	narrow = p->family == 4 && !(p->flags & SL_P_WIDE);
	w->tie = narrow ? mix_words(w->tie, key, 4) : mix_words(w->tie, key, 12);
	if (w->carriers < SL_MAX_TUNNELS) {
		struct sl_carrier *c = &w->carrier[w->carriers & (SL_MAX_TUNNELS - 1)];

		__builtin_memcpy(c->key, key, sizeof(c->key));
		c->family = narrow ? 4 : 6;
		c->dir = p->dir;
		c->ip_len = p->ip_len;
		c->payload = p->payload;
		w->carriers++;
	}
	return 1;
}

/* The mirror that a packet is of; null: none. */
static __always_inline struct sl_mirror *mirror_of(const struct sl_packet *p, const struct sl_key6 *key, int verdict)
{
	struct sl_mirror_key at = { .port = p->dport };
	struct mapped src;

	if (verdict != SL_V_SHUNTED || p->proto != IPPROTO_UDP)
		return 0;
	mapped_ends(p, key, &src, (struct mapped *)at.addr);
	return bpf_map_lookup_elem(&mirrors, &at);
}

/*
 * Opens what a mirror puts around its frames, at offset `at` of a datagram that ends at `limit`. As in src/packet/encap: what
 * is no frame for the source is none here. Not static: the verifier looks at it once, and it has a stack of its own.
 */
__noinline __u64 open_mirror(frame_ctx *ctx, struct sl_way *w, __u32 at, __u32 limit)
{
	void *data, *end;
	__u64 found;
	__u8 *first;

	if (!w)
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	at += w->mirror.skip;
	w->mirror.skip = 0;
	if (w->kind == SL_MIRROR_RAW)
		found = at > TUNNEL_REACH ? INSIDE(INSIDE_NOTHING, 0, 0, 0) : inside(ETH_P_TEB, at, limit, 0);
	else
		found = open_tunnel(ctx, w->kind & SL_TUNNEL_GENEVE ? SL_TUNNEL_GENEVE : SL_TUNNEL_VXLAN, 0, at, limit);
	/* Between GENEVE and VXLAN there is IP. */
	if (w->kind == SL_MIRROR_BOTH && INSIDE_TYPE(found) == ETH_P_TEB)
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	if (INSIDE_WHAT(found) != INSIDE_PACKET || w->kind & SL_TUNNEL_GENEVE || w->mirror.link)
		return found;
	/* IP, of which the first bits say the version. */
	at = INSIDE_AT(found);
	if (at > TUNNEL_REACH || !frame_bounds(ctx, &data, &end))
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	first = data + (at & TUNNEL_REACH);
	if ((void *)(first + 1) > end)
		return INSIDE(INSIDE_NOTHING, 0, 0, 0);
	return INSIDE(INSIDE_PACKET, *first >> 4 == 6 ? ETH_P_IPV6 : ETH_P_IP, at, INSIDE_VNI(found));
}

/* What is between GENEVE and VXLAN: UDP to VXLAN's port, whole and without extension headers. */
static __always_inline bool is_between(const struct sl_packet *p, int verdict)
{
	return verdict == SL_V_SHUNTED && p->proto == IPPROTO_UDP && p->dport == bpf_htons(VXLAN_PORT) &&
	       (p->family == 4 || p->l4 == p->l3 + sizeof(struct ipv6hdr));
}

/*
 * A frame was parsed up to its first IP packet, with `verdict`. Goes on to what is inside, if it is a tunnel that is looked
 * into; else answers how it goes on: with this verdict, when `*decided`, or by its own flow.
 */
static __always_inline int go_inside(frame_ctx *ctx, struct sl_packet *p, struct sl_key6 *key, struct sl_ledger *mine,
				     int verdict, bool *decided)
{
	struct sl_mirror *mirror = cfg_mirror ? mirror_of(p, key, verdict) : 0;
	__u32 zero = 0, kind = cfg_mirror ? (mirror ? mirror->kind : 0) : tunnel_kind(p, verdict);
	struct sl_way *w;
	struct sl_packet *s;

	*decided = cfg_mirror;
	if (!kind)
		return cfg_mirror && verdict != SL_V_PASS_FRAGMENT ? SL_V_PASS_HOST : verdict;
	/* What is between the ends of the tunnel counts before what is inside. */
	if (cfg_pairs || cfg_prefixes) {
		int by_pair = on_pairs(p, key, mine, SL_V_PASS_NO_ENTRY);

		*decided = by_pair != SL_V_PASS_NO_ENTRY;
		if (*decided)
			return by_pair;
	}
	*decided = true;
	w = bpf_map_lookup_elem(&way, &zero);
	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!w || !s)
		return SL_V_PASS_TUNNEL;
	w->depth = w->tie = w->carriers = w->vxlan = w->geneve = 0;
	w->kind = kind;
	/* A mirror that ends here is no flow of its own. */
	if (mirror)
		w->mirror = *mirror;
	else if (!note_tunnel(w, p, key, kind))
		return SL_V_PASS_TUNNEL;
	__builtin_memcpy(s, p, __builtin_offsetof(struct sl_packet, key));
	bpf_tail_call_static(ctx, &rules, SL_RULES_INNER);
	return SL_V_PASS_TUNNEL;
}

static __always_inline int shunt_inner(struct sl_packet *p, const struct sl_key6 *key, const struct sl_way *w,
				       struct sl_ledger *mine, __u32 cpu, int verdict)
{
	struct sl_flow *f;
	__u64 now;

	if (verdict != SL_V_SHUNTED)
		return on_others(p, key, mine, verdict);
	f = flow_of(key, p->family == 4 && !(p->flags & SL_P_WIDE) ? 4 : 6);
	if (!f)
		return on_others(p, key, mine, SL_V_PASS_NO_ENTRY);
	/* The same connection in another mirror is another one, in the records of others. */
	if (cfg_mirror) {
		__u32 owner = OWNER(READ_ONCE(f->dir[0].state));

		if (owner < w->mirror.first_owner || owner > w->mirror.last_owner)
			return on_others(p, key, mine, SL_V_PASS_NO_ENTRY);
	}
	now = clock(mine);
	if (w->carriers && READ_ONCE(f->dir[0].cpu) & SL_TIED) {
		__u32 state = READ_ONCE(f->dir[0].state);
		bool one = w->carriers == 1, open = false;
		struct sl_flow *carrier = 0;

		/* Mostly there is one, which is looked up once. */
		if (likely(one)) {
			carrier = carrier_of(w, 0);
			if (carrier)
				open = is_open(carrier, w->carrier[0].dir, OWNER(state), now);
		} else {
			open = carriers_open(OWNER(state), now);
		}
		if (STATE(state) == SL_SHUNT && !open) {
			end_flow(f, SL_END_TUNNEL);
			return SL_V_PASS_CARRIER;
		}
		verdict = on_hit(f, p, cpu, now);
		if (verdict != SL_V_SHUNTED)
			return verdict;
		if (carrier)
			count_carrier(carrier, &w->carrier[0], cpu, now);
		else
			count_carriers(cpu, now);
		return verdict;
	}
	return on_hit(f, p, cpu, now);
}

/* Opens the tunnel that the program before has come to. Fills in `p` and answers its verdict. */
static __always_inline int look_inside(frame_ctx *ctx, struct sl_packet *p, struct sl_ledger *mine, __u32 cpu)
{
	void *data, *end;
	__u32 zero = 0, at, limit, kind;
	struct sl_packet *s = bpf_map_lookup_elem(&scratch, &zero);
	struct sl_way *w = bpf_map_lookup_elem(&way, &zero);
	struct sl_key6 key = {};
	__be16 proto;
	__u64 found;
	int verdict;

	__builtin_memset(p, 0, sizeof(*p));
	IN_MEMORY(*p);
	if (!s || !w)
		return SL_V_ABORTED;
	kind = w->kind;
	limit = s->l3 + s->ip_len;
	at = s->l4;
	if (cfg_mirror && !w->depth) {
		/* A socket is given what UDP says. */
		at += 8;
		limit = at + s->payload;
		found = open_mirror(ctx, w, at, limit);
	} else {
		at += kind & (SL_TUNNEL_VXLAN | SL_TUNNEL_GENEVE) ? 8 : 0;
		found = open_tunnel(ctx, kind, s->proto, at, limit);
	}
	if (INSIDE_WHAT(found) != INSIDE_PACKET) {
		__builtin_memcpy(p, s, __builtin_offsetof(struct sl_packet, key));
		if (INSIDE_WHAT(found) == INSIDE_VIOLATION)
			end_carrier();
		return SL_V_PASS_TUNNEL;
	}
	if (cfg_tunnel_in_key && kind == SL_TUNNEL_VXLAN)
		w->vxlan = 1 << 24 | INSIDE_VNI(found);
	if (cfg_tunnel_in_key && kind & SL_TUNNEL_GENEVE)
		w->geneve = 1 << 24 | INSIDE_VNI(found);
	/* The packet inside ends with the one around it. */
	p->frame_len = limit;
	at = INSIDE_AT(found) & FRAME_REACH;
	if (at != INSIDE_AT(found) || !frame_bounds(ctx, &data, &end)) {
		p->frame_len = s->frame_len;
		return SL_V_PASS_TUNNEL;
	}
	if (INSIDE_TYPE(found) == ETH_P_TEB) {
		proto = parse_link_at(ctx, p, at, FRAME_REACH);
	} else {
		proto = bpf_htons(INSIDE_TYPE(found));
		p->l3 = at;
	}
	/* What is around it may end before its link-layer header does. */
	if (unlikely(p->l3 > p->frame_len))
		proto = 0;
	if (likely(proto == bpf_htons(ETH_P_IP)))
		verdict = parse_ipv4(data + (p->l3 & FRAME_REACH), end, p, (struct sl_key4 *)&key);
	else if (proto == bpf_htons(ETH_P_IPV6))
		verdict = parse_ipv6(ctx, data + (p->l3 & FRAME_REACH), end, p, &key);
	else
		verdict = proto ? SL_V_PASS_NOT_IP : SL_V_PASS_PARSE;
	limit = p->frame_len;
	p->frame_len = s->frame_len;
	/* As in the flow engine: IP in IP fills what is there. */
	if (kind == SL_TUNNEL_IPIP && p->l3 + p->ip_len != limit)
		return SL_V_PASS_TUNNEL;
	if (cfg_mirror && kind == SL_MIRROR_BOTH) {
		if (!is_between(p, verdict))
			return SL_V_PASS_TUNNEL;
		w->kind = SL_TUNNEL_VXLAN;
		__builtin_memcpy(s, p, __builtin_offsetof(struct sl_packet, key));
		bpf_tail_call_static(ctx, &rules, SL_RULES_INNER);
		return SL_V_PASS_TUNNEL;
	}
	kind = tunnel_kind(p, verdict);
	if (kind) {
		if (!note_tunnel(w, p, &key, kind))
			return SL_V_PASS_TUNNEL;
		__builtin_memcpy(s, p, __builtin_offsetof(struct sl_packet, key));
		bpf_tail_call_static(ctx, &rules, SL_RULES_INNER);
		return SL_V_PASS_TUNNEL;
	}
	widen(p, &key, w);
	p->tie = w->tie;
	if (cfg_trace || cfg_steer || cfg_watch) {
		__builtin_memcpy(p->key, &key, sizeof(key));
		p->parsed = verdict;
	}
	return shunt_inner(p, &key, w, mine, cpu, verdict);
}

#endif
