// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Who sends in `sluice bench shunt`: run over live frames, it makes each of them the next one of an array, as a connection of the
 * turn at hand, waits until it is due and redirects it. What goes into a veth this way arrives like a frame of a driver's.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* As long the frames are that the bench gives. */
#define LONGEST 1514
/* As many turns have addresses of their own; the two lower halves of a connection's addresses add up to SUM. */
#define TURNS 512
#define SUM 0x6400
#define CLIENTS 10
/* Mixes that are sent at the same time. */
#define STREAMS 16
/* Looks at the clock before a wait is given up, some 0.1 s. */
#define LOOKS (1 << 22)

struct frame {
	__u32 length;
	__u8 bytes[1516];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct frame);
} frames SEC(".maps");

/* What the bench sets before a run, and reads after it. Times are of CLOCK_MONOTONIC in ns. */
struct order {
	/* When the next frame is due, and how long after it the one behind it is; without a gap nobody waits. */
	__u64 due;
	__u64 gap;
	/* How much of a delay is caught up with: more of it at once would be a burst that overruns the cable. */
	__u64 catch_up;
	__u64 sent;
	__u32 ifindex;
	__u32 packets;
	/* Streams take turns, frame by frame: how many there are, and whose turn it is. */
	__u32 streams;
	__u32 stream;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct order);
} orders SEC(".maps");

/* How far a stream has got: its next frame, and whose addresses it has. */
struct place {
	__u32 next;
	__u32 turn;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, STREAMS);
	__type(key, __u32);
	__type(value, struct place);
} places SEC(".maps");

static long is_due(__u64 i, void *due)
{
	return bpf_ktime_get_ns() >= *(__u64 *)due;
}

static __always_inline void wait(struct order *order)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 due = order->due;

	if (due + order->catch_up < now)
		due = now - order->catch_up;
	else
		bpf_loop(LOOKS, is_due, &due, 0);
	order->due = due + order->gap;
}

/* Makes another connection of it: what the client's address is more the server's is less, so all checksums stay right. */
static __always_inline void shift(struct iphdr *ip, __u32 turn)
{
	__be32 low = bpf_htonl(0xffff);
	__u32 more = (1 + turn % TURNS) * 16;
	__be32 client = bpf_htonl(more);
	__be32 server = bpf_htonl((SUM - more) & 0xffff);
	bool from_client = (bpf_ntohl(ip->saddr) >> 24) == CLIENTS;

	ip->saddr = (ip->saddr & ~low) | (from_client ? client : server);
	ip->daddr = (ip->daddr & ~low) | (from_client ? server : client);
}

SEC("xdp")
int bench_send(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct order *order = bpf_map_lookup_elem(&orders, &zero);
	struct place *place;
	struct frame *frame;
	struct iphdr *ip;
	__u32 length;

	if (!order)
		return XDP_ABORTED;
	place = bpf_map_lookup_elem(&places, &order->stream);
	if (!place)
		return XDP_ABORTED;
	frame = bpf_map_lookup_elem(&frames, &place->next);
	if (!frame)
		return XDP_ABORTED;
	length = frame->length;
	if (length < sizeof(struct ethhdr) + sizeof(*ip) || length > LONGEST)
		return XDP_ABORTED;
	if (bpf_xdp_adjust_tail(ctx, (int)length - LONGEST) || bpf_xdp_store_bytes(ctx, 0, frame->bytes, length))
		return XDP_ABORTED;
	ip = (void *)(long)ctx->data + sizeof(struct ethhdr);
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	shift(ip, place->turn);
	if (++place->next >= order->packets) {
		place->next = 0;
		place->turn++;
	}
	if (++order->stream >= order->streams)
		order->stream = 0;
	order->sent++;
	if (order->gap)
		wait(order);
	return bpf_redirect(order->ifindex, 0);
}
