/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The hit: decides over a packet whose flow has an entry, and keeps its books. */
#ifndef SLUICE_BOOKS_H
#define SLUICE_BOOKS_H

#include <linux/in.h>
#include "after.h"
#include "history.h"
#include "maps.h"

/* A jump of the acknowledgement to 0 is believed only when it is small, as in Zeek (TCPSessionAdapter). */
#define TOO_LARGE_SEQ_DELTA 1048576

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

static __always_inline void advance_ack(struct sl_dir *d, const struct sl_packet *p, bool own)
{
	__u32 high = READ_ONCE(d->ack);
	__s32 delta = (__s32)(p->ack - high);

	if (!(p->tcp_flags & TCP_ACK) || delta <= 0)
		return;
	if (unlikely(p->ack == 0 && delta > TOO_LARGE_SEQ_DELTA))
		return;
	if (likely(own))
		WRITE_ONCE(d->ack, p->ack);
	else
		__sync_val_compare_and_swap(&d->ack, high, p->ack);
}

/*
 * `high` is the sequence end before this segment. What has no payload moves it only past something that was lost on the way
 * here, until data makes up for that from its beginning, or reaches the end. Of entries made by the gate itself sync_ack is taken.
 */
__noinline int note_missing(struct sl_dir *d, __u32 seq, __u32 payload, __u32 high)
{
	__u32 end = seq + payload, edge;

	if (!d)
		return 0;
	if (!payload) {
		WRITE_ONCE(d->sync_ack, high);
		__sync_fetch_and_or(&d->cpu, SL_AHEAD);
		return 0;
	}
	edge = READ_ONCE(d->sync_ack);
	if (end == (__u32)READ_ONCE(d->seq))
		__sync_fetch_and_and(&d->cpu, ~SL_AHEAD);
	else if ((__s32)(seq - edge) <= 0 && (__s32)(end - edge) > 0)
		WRITE_ONCE(d->sync_ack, end);
	return 0;
}

static __always_inline bool owns(struct sl_dir *d, __u32 word, __u32 me)
{
	if (likely((word & SL_CPU_MASK) == me))
		return true;
	return !(word & SL_CPU_MASK) && __sync_val_compare_and_swap(&d->cpu, word, word | me) == word;
}

/* Decides over a packet whose flow has an entry, and keeps its books. */
static __always_inline int on_hit(struct sl_flow *f, const struct sl_packet *p, __u32 cpu, __u64 now)
{
	__u32 dir = p->dir;
	struct sl_dir *d = dir ? &f->dir[1] : &f->dir[0];
	__u32 state = READ_ONCE(d->state);
	__u32 owner = OWNER(state);

	if (unlikely(STATE(state) != SL_SHUNT && STATE(state) != SL_ARMED))
		return SL_V_PASS_ENDING;

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
	if (p->proto == IPPROTO_TCP && unlikely(p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))) {
		end_flow(f, p->tcp_flags & TCP_SYN ? SL_END_SYN : p->tcp_flags & TCP_RST ? SL_END_RST : SL_END_FIN);
		return SL_V_PASS_CLOSE;
	}

	__u32 word = READ_ONCE(d->cpu);
	bool own = owns(d, word, cpu + 1);
	bool old = false;

	if (cfg_tunnels && STATE(state) == SL_SHUNT) {
		if (word & SL_CARRIER)
			return SL_V_PASS_CARRIER;
		/* Other tunnels than before: whoever keeps the books of the flow has to see that. */
		if (word & SL_TIED && READ_ONCE(d->sync_seq) != p->tie) {
			end_flow(f, SL_END_TUNNEL);
			return SL_V_PASS_CARRIER;
		}
	}
	if (STATE(state) == SL_ARMED) {
		if (p->proto == IPPROTO_TCP) {
			advance_seq(d, p->seq + p->payload, own, &old);
			advance_ack(d, p, own);
			if (word & (SL_SYNC_WAIT | SL_SYNC_DONE))
				on_sync(d, word, !p->window, old && p->payload);
		}
		WRITE_ONCE(d->last, now);
		on_armed(f, d, p, word);
		return SL_V_PASS_ARMED;
	}

	if (p->proto == IPPROTO_TCP) {
		__u32 seen = p->payload ? SL_SEEN_DATA : p->tcp_flags & TCP_ACK ? SL_SEEN_ACK : 0;
		__u32 side = dir ? SL_EV_DIR1 : 0;

		if (unlikely(seen & ~word)) {
			__u32 was = __sync_fetch_and_or(&d->cpu, seen);

			if (was & SL_LEARN) {
				WRITE_ONCE(d->seq, p->seq);
				WRITE_ONCE(d->ack, p->ack);
				learned(d, was, p->seq);
				__sync_fetch_and_and(&d->cpu, ~SL_LEARN);
			}
			if (!(was & seen))
				log_event(f, (seen == SL_SEEN_DATA ? SL_EV_DATA : SL_EV_ACK) + side);
		}
		if (unlikely(!p->window))
			log_scaled(f, SL_EV_ZERO_WINDOW + side, &d->zero_windows);
		__u32 high = READ_ONCE(d->seq);

		advance_seq(d, p->seq + p->payload, own, &old);
		if (unlikely(word & SL_AHEAD ? p->payload : !p->payload && !old) && !(word & SL_MADE))
			note_missing(d, p->seq, p->payload, high);
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

#endif
