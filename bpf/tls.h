/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * When a TLS handshake is over, as far as can be seen from record headers (RFC 8446, section 5.1), in both directions of a
 * connection: both hellos were seen; then a record of application data by the client in a segment that acknowledges the
 * ServerHello (so it is no early data); then one by the server in a segment that acknowledges that one. In TLS 1.3 the rest
 * of the handshake has that type as well: the server's comes before the client's, and the client's before what it acknowledges.
 *
 * Each direction is followed from record to record by sequence numbers, over headers that are cut by segments. What is out of
 * order is passed over; where the place is lost, a segment that begins with a record's header finds it again. Lost for good
 * means: never by TLS.
 */
#ifndef SLUICE_TLS_H
#define SLUICE_TLS_H

#include "common.h"
#include "frame.h"

#define TLS_HEADER 5
#define TLS_HANDSHAKE 22
#define TLS_APPLICATION_DATA 23
#define TLS_LONGEST (16384 + 256)
/* Records in one segment that are looked at. */
#define TLS_RECORDS 8

static __always_inline bool is_type(__u32 type)
{
	return type >= 20 && type <= 24;
}

/* From a record's header, five bytes with the first one in the highest place: its type << 16 | its length; 0: it is none. */
static __always_inline __u32 record_of(__u64 header)
{
	__u32 type = header >> 32 & 0xff, version = header >> 16 & 0xffff, length = header & 0xffff;

	if (!is_type(type) || version < 0x300 || version > 0x304 || !length || length > TLS_LONGEST)
		return 0;
	return type << 16 | length;
}

/* What of a header is at `off` of the payload, which is at `at` of the frame: adds it to what came before. */
__noinline int take_header(frame_ctx *ctx, struct sl_watched *d, __u32 at, __u32 off, __u32 len)
{
	__u8 bytes[8] = {};

	if (!d)
		return 0;
	if (!d->have && off + TLS_HEADER <= len) {
		if (bpf_xdp_load_bytes(ctx, at + off, bytes, TLS_HEADER))
			return 0;
		d->head = (__u64)bytes[0] << 32 | (__u64)bytes[1] << 24 | bytes[2] << 16 | bytes[3] << 8 | bytes[4];
		d->have = TLS_HEADER;
		return 1;
	}
	for (int i = 0; i < TLS_HEADER; i++) {
		if (d->have >= TLS_HEADER || off >= len)
			break;
		if (bpf_xdp_load_bytes(ctx, at + off, bytes, 1))
			return 0;
		d->head = d->head << 8 | bytes[0];
		d->have++;
		off++;
	}
	return 1;
}

/* Sets bits of a word that is this flow's still. */
static __always_inline void set_bits(struct sl_watched *d, __u32 tag, __u32 bits)
{
	__u32 old = READ_ONCE(d->word);

	if ((old & ~0xffU) == tag)
		__sync_val_compare_and_swap(&d->word, old, old | bits);
}

/* A hello at the beginning of a segment: also behind STARTTLS, SOCKS, CONNECT. */
static __always_inline void look_for_hello(frame_ctx *ctx, const struct sl_packet *p, struct sl_watched *d, __u32 at,
					   __u32 tag)
{
	__u8 b[6];
	__u32 record;

	if (p->payload < sizeof(b) || bpf_xdp_load_bytes(ctx, at, b, sizeof(b)))
		return;
	record = record_of((__u64)b[0] << 32 | (__u64)b[1] << 24 | b[2] << 16 | b[3] << 8 | b[4]);
	if (record >> 16 != TLS_HANDSHAKE || (b[5] != 1 && b[5] != 2))
		return;
	d->next = p->seq + TLS_HEADER + (record & 0xffff);
	d->have = 0;
	d->head = 0;
	d->mark = p->seq;
	set_bits(d, tag, b[5] == 1 ? SL_W_HELLO | SL_W_CLIENT : SL_W_HELLO);
}

/* Application data, from `at` in the stream. True: both have finished their handshake. */
static __always_inline bool on_data(const struct sl_packet *p, struct sl_watched *d, struct sl_watched *o, __u32 at,
				    __u32 tag)
{
	__u32 mine = READ_ONCE(d->word), theirs = READ_ONCE(o->word);

	if (!(p->tcp_flags & TCP_ACK) || !(theirs & SL_W_HELLO) || !(mine & SL_W_CLIENT) == !(theirs & SL_W_CLIENT))
		return false;
	if (!(mine & SL_W_CLIENT))
		return theirs & SL_W_DATA && (__s32)(p->ack - READ_ONCE(o->mark)) >= 0;
	if (!(mine & SL_W_DATA) && (__s32)(p->ack - READ_ONCE(o->mark)) > 0) {
		WRITE_ONCE(d->mark, at + TLS_HEADER);
		set_bits(d, tag, SL_W_DATA);
	}
	return false;
}

/* Follows the records of direction `d` through a segment. Not static: the verifier looks at it once. */
__noinline int follow_records(frame_ctx *ctx, const struct sl_packet *p, struct sl_watched *d, struct sl_watched *o,
			      __u32 tag)
{
	__u32 at, len;
	__s32 off;

	if (!p || !d || !o)
		return 0;
	at = p->l3 + p->ip_len - p->payload;
	len = p->payload;
	for (int i = 0; i < TLS_RECORDS; i++) {
		__u32 record, begin;

		off = (__s32)(d->next + d->have - p->seq);
		if (off < 0) {
			/* Behind a gap: what comes next may begin here. */
			d->next = p->seq;
			d->have = 0;
			off = 0;
		}
		if (off >= (__s32)len)
			return 0;
		if (!take_header(ctx, d, at, off, len))
			return 0;
		if (d->have < TLS_HEADER) {
			/* Where this is no beginning of a header, the next segment is not its end. */
			if (is_type(d->head >> (d->have - 1 & 7) * 8))
				return 0;
			d->head = 0;
		}
		record = record_of(d->head);
		begin = d->next;
		d->have = 0;
		d->head = 0;
		if (!record) {
			/* Lost: the next segment may begin with one. */
			d->next = p->seq + len;
			return 0;
		}
		d->next = begin + TLS_HEADER + (record & 0xffff);
		if (record >> 16 == TLS_APPLICATION_DATA && on_data(p, d, o, begin, tag))
			return 1;
	}
	return 0;
}

static __always_inline bool follow_tls(frame_ctx *ctx, const struct sl_packet *p, struct sl_watched *d,
				       struct sl_watched *o, __u32 tag)
{
	if (READ_ONCE(d->word) & SL_W_HELLO)
		return follow_records(ctx, p, d, o, tag);
	look_for_hello(ctx, p, d, p->l3 + p->ip_len - p->payload, tag);
	return false;
}

#endif
