/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Layouts shared by the in-kernel programs and, through BTF, by src/gate/layout.gen.ts. Nothing here is typed twice. */
#ifndef SLUICE_GATE_H
#define SLUICE_GATE_H

#include <linux/types.h>

/* A change of any layout below changes this number, and with it the directory of the pins. */
#define SL_LAYOUT 6

#define SL_MAX_TAGS 4
#define SL_MAX_LABELS 4
#define SL_MAX_EXT_HEADERS 6
/* Tunnels around one another that the gate looks into. */
#define SL_MAX_TUNNELS 4
/* Ports of each kind of tunnel over UDP. */
#define SL_TUNNEL_PORTS 4
#define SL_OWNERS 256
#define SL_LOG_EVENTS 32

/*
 * Keys. "low" is the endpoint whose (address, port) is smaller in memcmp order; direction 0 goes from low to high.
 * word = protocol | outer VLAN id << 8 | inner VLAN id << 20; the VLANs are 0 unless they are to be told apart.
 * Addresses and ports are in network order, words in host order.
 */
struct sl_key4 {
	__be32 low_addr;
	__be32 high_addr;
	__be16 low_port;
	__be16 high_port;
	__u32 word;
};
_Static_assert(sizeof(struct sl_key4) == 16, "no implicit padding");

struct sl_key6 {
	__u8 low_addr[16];
	__u8 high_addr[16];
	__be16 low_port;
	__be16 high_port;
	__u32 word;
	__u32 vxlan; /* tunnel ids; the spare top byte tells the tunnel kind, 0 is no tunnel */
	__u32 geneve;
};
_Static_assert(sizeof(struct sl_key6) == 48, "no implicit padding");

enum sl_state {
	SL_NONE = 0,
	SL_ARMED = 1,  /* packets pass; highest sequence and acknowledgement are tracked */
	SL_SHUNT = 2,  /* packets are counted and dropped */
	SL_ENDING = 3, /* packets pass; nothing is written any more */
};

enum sl_end_reason {
	SL_END_NONE = 0,
	SL_END_SYN = 1,
	SL_END_FIN = 2,
	SL_END_RST = 3,
	SL_END_LEASE = 4,
	SL_END_IDLE = 5,
	SL_END_LOG = 6, /* the log of history events is full */
	SL_END_ASKED = 7,
	SL_END_LIMIT = 8, /* made by hand, and its time is over */
	SL_END_TUNNEL = 9, /* in other tunnels than before, or one of them is no longer counted */
};

/* Bits of sl_dir.cpu beside the number of the owning CPU + 1. */
#define SL_CPU_MASK 0xffffU
#define SL_SEEN_DATA (1U << 16)
#define SL_SEEN_ACK (1U << 17)
/* TCP, while shunted: a segment without payload was the last to move the sequence, so what it moved past was lost; see sync_ack. */
#define SL_AHEAD (1U << 19)
/*
 * While armed. The order of T and W letters depends on how many there were before, which only the owner knows, and the
 * owner is behind: it reads a ring. So both take their count at the same packet, the first to advance sequence or
 * acknowledgement beyond a mark, and the one side proves to the other by the values after it that it was the same.
 */
#define SL_SYNC_WAIT (1U << 18) /* the mark is set: retransmissions and zero windows are being counted */
#define SL_SYNC_DONE (1U << 20) /* the mark was passed: they are counted from the packet after the one that did */
/* Made without sequence state (by hand): the first packet tells where the sequence stands. */
#define SL_LEARN (1U << 21)
/* Given by the owner with the entry (sl_op.flags), where the gate looks into tunnels. */
#define SL_TIED (1U << 22)    /* while shunted, sync_seq is the tie of the tunnels around it: in others it passes and ends */
#define SL_CARRIER (1U << 23) /* a tunnel over UDP: its packets pass, and count here when what is inside is dropped */
/* Armed: shunted by the gate itself once sync_ack of one direction, the IP bytes or packets that it may still pass, is used up. */
#define SL_AFTER_BYTES (1U << 24)
#define SL_AFTER_PKTS (1U << 25)
#define SL_AFTER (SL_AFTER_BYTES | SL_AFTER_PKTS)
/* Made by the gate itself, from what it has watched: the cookie says why (SL_MADE_*), both sync_ack when (ns, low half first). */
#define SL_MADE (1U << 26)

/*
 * Everything that a hit touches, one cache line per direction (two CPUs on two directions share no line).
 * The CPU that owns the direction adds plainly; others add atomically to the spare counters of sl_flow.
 */
struct sl_dir {
	__u32 state; /* enum sl_state | enum sl_end_reason << 8 | lease owner << 16 */
	__u32 cpu;   /* owning CPU + 1, SL_SEEN_* */
	__u64 pkts;
	__u64 ip_bytes;
	__u64 seq;  /* TCP: highest sequence end, wraps carried into the upper half. Others: payload bytes */
	__u64 last; /* CLOCK_MONOTONIC ns, coarse */
	__u32 ack;  /* TCP: highest acknowledgement sent in this direction */
	__u32 idle_ms; /* 0: no idle limit */
	/* Retransmissions (T) and zero windows (W): since the mark or the packet that passed it; the flip adds those before. */
	__u32 rexmits;
	__u32 zero_windows;
	/*
	 * Armed: the mark, then the values after the packet that passed it. Shunted: see SL_TIED; else, where the gate has begun it by
	 * itself, sync_seq is the sequence end then. With SL_AHEAD sync_ack is where that begins which is missing below seq.
	 */
	__u32 sync_seq;
	__u32 sync_ack;
};
_Static_assert(sizeof(struct sl_dir) == 64, "one cache line");

struct sl_spare {
	__u64 pkts;
	__u64 ip_bytes;
};

/* Letters of the history that happened while packets were dropped, in order: 4 bits each, see enum sl_event. */
enum sl_event {
	SL_EV_PENDING = 0,
	SL_EV_DATA = 1,
	SL_EV_ACK = 2,
	SL_EV_REXMIT = 3, /* the total has reached 1, 10, 100 … */
	SL_EV_ZERO_WINDOW = 4,
	SL_EV_DIR1 = 8, /* added for direction 1 */
};

struct sl_flow {
	struct sl_dir dir[2];
	struct sl_spare spare[2];
	__u64 log[2]; /* TCP: events. Others: payload bytes of the spare counters */
	__u32 log_len;
	/* The owner's own number for this flow. Owner 0, made by hand: when its time is over, CLOCK_MONOTONIC seconds. */
	__u32 cookie;
	__u64 first;    /* time of the first dropped packet, CLOCK_MONOTONIC ns, coarse */
};
_Static_assert(sizeof(struct sl_flow) == 192, "three cache lines");

/* In the kernel's hash element the value stands behind 48 bytes and the key: pad so that the lines are aligned. */
struct sl_value4 {
	struct sl_flow flow; /* 48 + 16 = 64 */
};
struct sl_value6 {
	__u64 pad[4]; /* 48 + 48 + 32 = 128 */
	struct sl_flow flow;
};

/* Each packet is counted once, under what became of it. */
enum sl_verdict {
	SL_V_ABORTED = 0,
	SL_V_SHUNTED = 1,
	SL_V_PASS_NO_ENTRY = 2,
	SL_V_PASS_NOT_IP = 3,
	SL_V_PASS_FRAGMENT = 4,
	SL_V_PASS_PARSE = 5, /* cut, malformed, or beyond what is parsed */
	SL_V_PASS_ARMED = 6,
	SL_V_PASS_ENDING = 7,
	SL_V_PASS_CLOSE = 8, /* the SYN, FIN or RST that ended a shunt */
	SL_V_PASS_LEASE = 9,
	SL_V_PASS_IDLE = 10,
	SL_V_PASS_OTHER = 11, /* a protocol that carries other packets, or none */
	SL_V_PASS_LIMIT = 12, /* made by hand, and its time is over */
	SL_V_PASS_EXCEPTION = 13, /* an address pair or prefix says drop, an exception says never */
	SL_V_SHUNTED_PAIR = 14, /* by address pair or prefix */
	SL_V_RULE_DROPPED = 15,
	SL_V_RATE_LIMITED = 16,
	SL_V_PASS_TUNNEL = 17,  /* a tunnel in which there is nothing to look at, or one too many */
	SL_V_PASS_CARRIER = 18, /* shunted, but in other tunnels than these; or the tunnel itself */
	SL_V_PASS_HOST = 19,    /* on an interface with the host's own traffic, no packet of a named mirror */
	SL_V_SHUNTED_PEER = 20, /* by another sensor's entry in a table of its own layout */
	SL_VERDICTS = 21,
};

struct sl_count {
	__u64 pkts;
	__u64 bytes; /* L2 bytes */
};

/* What a CPU has to itself. */
struct sl_ledger {
	struct sl_count count[SL_VERDICTS];
	/* The clock: coarse CLOCK_MONOTONIC ns as first read in this jiffy. */
	__u64 jiffy;
	__u64 now;
	struct sl_count steered; /* of what passes, what went to a CPU by its flow */
	__u64 pad[2];
};
_Static_assert(sizeof(struct sl_ledger) == 384, "whole cache lines");

/* CPUs that packets may be shared out to, and the counters of one that does so, for each of them: a row of cache lines. */
#define SL_STEER_CPUS 256
#define SL_STEER_STRIDE(cpus) (((cpus) + 3) & ~3U)

/* What a CPU has seen of steering. */
struct sl_steering {
	struct sl_count arrived; /* from its queue */
	/* Fragments that it sent on: first ones, later ones whose first one was known, others, which went by addresses alone. */
	__u64 first;
	__u64 followed;
	__u64 unknown;
	__u64 pad[3];
};
_Static_assert(sizeof(struct sl_steering) == 64, "one cache line");

/* Bits of sl_packet.flags. */
#define SL_P_FRAGMENT 1 /* a fragment: no ports, no key */
#define SL_P_LATER 2    /* not the first one: what is at l4 is payload */
#define SL_P_FIRST 4    /* the first one, with a key all the same: only where fragments follow their flow */
#define SL_P_WIDE 8     /* IPv4 with tunnel ids: the key is struct sl_key6, with mapped addresses */

/*
 * What the parser found out about a packet. The programs that run after it find this in the map `scratch`; the layout
 * is part of the interface of the rules slot (docs/adr/0016-rules-slot.md).
 */
struct sl_packet {
	__u32 frame_len; /* of the whole frame, L2; of a multi-buffer frame more than is between data and data_end */
	__u32 vlans;     /* outer VLAN id << 8 | inner << 20 */
	__u16 l3;        /* offset of the network header; 0: the frame is cut */
	__u16 l4;        /* offset of the transport header; 0: there is none, or it was not reached */
	__u8 family;     /* 4, 6; 0: not IP, or its header is cut or malformed */
	__u8 proto;      /* behind the extension headers */
	__u8 flags;      /* SL_P_* */
	__u8 tcp_flags;
	__be16 sport; /* of ICMP the numbers of the key. With `parsed` = SL_V_SHUNTED only, as all from here to `ack` */
	__be16 dport;
	__u16 window;
	__u8 dir;    /* 1: source and destination are the other way round in the key */
	__u8 parsed; /* enum sl_verdict: SL_V_SHUNTED when the packet has a key, else why it passes */
	__u32 ip_len;  /* IP total length; with a family */
	__u32 payload; /* behind the transport header */
	__u32 seq;
	__u32 ack;
	__be32 fragment; /* id of the datagram, of IPv4 in the low 16 bits; with SL_P_FRAGMENT */
	/* Written by a rules program before it goes on to SL_RULES_EXIT. */
	__u32 verdict; /* SL_V_RULE_DROPPED, SL_V_RATE_LIMITED; while somebody captures, of every packet as it leaves */
	__u32 rule;    /* the number of the rule, for those who trace */
	/* For captures at the exit hook. */
	__u32 owner; /* of the entry that decided; with verdicts that come from one */
	__u32 noted; /* SL_NOTED_*; whoever reads it puts it back to 0 */
	__u32 tie;   /* names the tunnels around it; 0: none, or the gate does not look into any */
	__u8 key[48]; /* struct sl_key4 or sl_key6; with a family at least its addresses are there */
};
_Static_assert(sizeof(struct sl_packet) == 112, "no implicit padding");
_Static_assert(__builtin_offsetof(struct sl_packet, key) == 64, "the key is in a line of its own");

/* Kinds of tunnels, bits of cfg_tunnels. */
#define SL_TUNNEL_VXLAN 1
#define SL_TUNNEL_GENEVE 2
#define SL_TUNNEL_GRE 4  /* around Ethernet (ERSPAN too) or IP */
#define SL_TUNNEL_IPIP 8 /* IPv4 or IPv6 in either */
/* Of a mirror only: VXLAN over UDP inside of GENEVE; nothing is around its frames. */
#define SL_MIRROR_BOTH (SL_TUNNEL_VXLAN | SL_TUNNEL_GENEVE)
#define SL_MIRROR_RAW 16

/* A tunnel over UDP around the packet that a CPU is at: a flow as well, whose packets are to be counted. */
struct sl_carrier {
	__u8 key[48]; /* struct sl_key4 or sl_key6 */
	__u32 family; /* 4, 6: of the key */
	__u32 dir;
	__u32 ip_len;
	__u32 payload;
};
_Static_assert(sizeof(struct sl_carrier) == 64, "one cache line");

/*
 * What a mirror that ends at this host puts around its frames, and whose they are: an entry of others is not touched by what
 * comes in this mirror.
 */
struct sl_mirror {
	__u32 kind; /* SL_TUNNEL_VXLAN, SL_TUNNEL_GENEVE, SL_MIRROR_* */
	__u16 skip; /* bytes before all that */
	__u16 link; /* what the frames begin with, where the header does not say it: ETH_P_TEB, or 0 for IP */
	__u16 first_owner;
	__u16 last_owner;
};
_Static_assert(sizeof(struct sl_mirror) == 12, "no implicit padding");

/* How the packet that a CPU is at lies in tunnels, as far as it was looked at. */
struct sl_way {
	__u32 depth;
	__u32 kind; /* of the tunnel that is opened next, SL_TUNNEL_* */
	__u32 tie;
	__u32 carriers;
	__u32 vxlan; /* for the key, as in struct sl_key6 */
	__u32 geneve;
	struct sl_mirror mirror; /* only with cfg_mirror */
	__u32 pad[7];
	struct sl_carrier carrier[SL_MAX_TUNNELS];
};
_Static_assert(sizeof(struct sl_way) == 320, "whole cache lines");

/* Where a mirror ends: one of the host's addresses (mapped) and a UDP port. */
struct sl_mirror_key {
	__u8 addr[16];
	__be16 port;
	__u16 pad;
};
_Static_assert(sizeof(struct sl_mirror_key) == 20, "no implicit padding");

/* What of the scratch is this packet's, bits of sl_packet.noted. */
#define SL_NOTED 1       /* the verdict; of what a rule decided the rule as well */
#define SL_NOTED_OWNER 2 /* the owner */

/* Bits of cfg_trace: whom to tell of each decision. */
#define SL_TELL_TRACE 1
#define SL_TELL_NOTES 2
#define SL_TELL_SAMPLES 4

/* Rows of the maps of sampling; interfaces of one gate whose indices are alike in these bits are sampled alike. */
#define SL_SAMPLED_INTERFACES 16

struct sl_sampling {
	__u32 every; /* one packet in so many; 0: none */
	__u32 size;  /* bytes of a sample */
	__u32 most;  /* of a CPU in a tick of the clock; what goes beyond is not taken */
	__u32 pad;
};

/* Per CPU. */
struct sl_sampler {
	__u32 left; /* packets until the next one */
	__u32 used; /* taken in this tick */
	__u64 tick; /* CLOCK_MONOTONIC ns, coarse */
	__u64 taken;
	__u64 lost; /* no room in the ring */
	__u64 over; /* beyond `most` */
	__u64 taken_bytes; /* L2 bytes of the packets */
	__u64 missed_bytes; /* of those lost or beyond */
};

/* Before the bytes of a packet. */
struct sl_gate_sample {
	__u64 time; /* CLOCK_MONOTONIC ns */
	__u32 frame_len;
	__u32 captured;
	__u32 ifindex;
	__u32 every; /* it stands for so many */
	__u32 rule;  /* with SL_V_RULE_DROPPED, SL_V_RATE_LIMITED */
	__u32 verdict;
};
_Static_assert(sizeof(struct sl_gate_sample) == 32, "no implicit padding");

/* A datagram that is in fragments (RFC 791, RFC 8200). Mapped addresses. */
struct sl_fragment_key {
	__u8 src[16];
	__u8 dst[16];
	__be32 id;
	__u32 word; /* as in the flow keys */
};
_Static_assert(sizeof(struct sl_fragment_key) == 40, "no implicit padding");

/* The flow that the first fragment was of. */
struct sl_fragment {
	__u8 key[48]; /* struct sl_key4 or sl_key6, by the family of the fragment */
	__u32 dir;
	__u32 pad;
};

/* Parts of struct sl_trace_filter that have to match. */
#define SL_TRACE_PROTO 1
#define SL_TRACE_A 2
#define SL_TRACE_B 4
#define SL_TRACE_PORT_A 8
#define SL_TRACE_PORT_B 16

/* Which packets are traced: those of a flow in either direction, of a host, or all. */
struct sl_trace_filter {
	__u8 a[16]; /* mapped */
	__u8 b[16];
	__be16 port_a;
	__be16 port_b;
	__u32 proto;
	__u32 parts; /* SL_TRACE_*; packets without ports match any */
	__u32 pad;
	__u64 lost; /* records for which there was no room */
};

/* A decision. */
struct sl_trace {
	__u64 time; /* CLOCK_MONOTONIC ns */
	__u32 verdict;
	__u32 cpu;
	struct sl_packet packet;
};

/* The map `rules`. From SL_RULES_CHAIN on the slots belong to the rule programs. */
enum sl_rules_slot {
	SL_RULES_ENTRY = 0, /* the rules; empty: there are none */
	SL_RULES_SHUNT = 1, /* sluice_shunt: what no rule matches goes on here */
	SL_RULES_EXIT = 2,  /* sluice_exit: what a rule drops goes on here */
	SL_RULES_INNER = 3, /* sluice_inner: what is inside of a tunnel; empty: the gate does not look into any */
	SL_RULES_CHAIN = 4,
	SL_RULES_SLOTS = 64,
};

/*
 * Everything between two addresses, whatever the protocol. Addresses of IPv4 are mapped (::ffff:a.b.c.d); low and high
 * in memcmp order.
 */
struct sl_pair_key {
	__u8 low_addr[16];
	__u8 high_addr[16];
	__u32 vlans; /* outer VLAN id << 8 | inner << 20, as in the flow keys */
	__u32 pad;
};
_Static_assert(sizeof(struct sl_pair_key) == 40, "no implicit padding");

struct sl_pair_count {
	__u64 pkts;
	__u64 ip_bytes;
	__u64 last; /* CLOCK_MONOTONIC ns, coarse */
};

struct sl_pair {
	struct sl_pair_count count[2]; /* low to high, high to low */
	__u32 owner;  /* of a lease; 0: made by hand */
	__u32 limit;  /* CLOCK_MONOTONIC seconds after which it matches no more; 0: only with an owner */
	__u32 cookie;
	__u32 pad;
};

/* Everything between two prefixes: a short list, searched in order. Mapped addresses, prefix lengths of 0 to 128. */
struct sl_prefix_pair {
	__u8 a[16];
	__u8 b[16];
	__u32 a_len;
	__u32 b_len;
	__u32 used; /* 1: this row matches */
	__u32 pad;
	struct sl_pair pair;
};

/* Addresses that are never shunted by pair or prefix. */
struct sl_exception_key {
	__u32 prefix_len;
	__u8 addr[16];
};

enum sl_op_code {
	SL_OP_ARM = 1,
	SL_OP_SYNC = 2,
	SL_OP_FLIP = 3,
	SL_OP_END = 4,
	SL_OP_PAIR_END = 5,   /* key: struct sl_pair_key */
	SL_OP_PREFIX_END = 6, /* cookie: row of the prefix list */
};

/* One change of one entry. User space fills a row of these in the mapped array and runs sluice_ops over it. */
struct sl_op {
	__u32 code;
	__u32 family; /* 4 or 6 */
	__u8 key[48];
	__u32 owner;
	__u32 idle_ms;
	__u32 cookie;
	__s32 result; /* 0, or a negative errno */
	__u32 state[2]; /* out: both state words */
	/*
	 * ARM, SYNC: the owner's highest sequence ends and acknowledgements; SYNC answers with the marks. FLIP: how many
	 * retransmissions and zero windows there were up to the synchronization.
	 */
	__u32 seq[2];
	__u32 ack[2];
	__u32 flags;  /* ARM: SL_TIED, SL_CARRIER; FLIP: one of SL_AFTER, to be shunted when `after` of one direction has passed */
	__u32 tie[2]; /* FLIP: of the tunnels around each direction */
	__u32 after;
	__u32 synced; /* with `after`: bits of the directions that the owner has seen synchronized */
	__u32 pad[3];
};
_Static_assert(sizeof(struct sl_op) == 128, "two cache lines");

struct sl_ops_range {
	__u32 first;
	__u32 count;
	__u32 done;
	__u32 pad;
};

/* Why the gate has shunted a flow by itself: the low byte of the cookie; 0x100: direction 1 is the originator's. */
#define SL_MADE_TLS 1
#define SL_MADE_BYTES 2
#define SL_MADE_PKTS 3
#define SL_MADE_DIR1 0x100

/* Bits of sl_watched.word beside the tag of the flow in its upper 24 bits. */
#define SL_W_FIRST 1  /* the watch began with a packet of this direction */
#define SL_W_HELLO 2  /* its ClientHello or ServerHello was seen: records are followed */
#define SL_W_CLIENT 4 /* it was a ClientHello */
#define SL_W_DATA 8   /* the client has sent application data after it had got the ServerHello */
#define SL_W_EXCEPT 16 /* an exception covers it */
#define SL_W_HELD 32   /* it would have been shunted, but for a hold */

/* A direction of a flow that has no entry, as the gate watches it by itself. */
struct sl_watched {
	__u64 ip_bytes; /* of packets with payload, as all that is here */
	__u32 pkts;
	__u32 word;
	__u32 seq;  /* TCP: highest sequence end and acknowledgement */
	__u32 ack;
	__u32 next; /* TLS: where the next record begins, how much of its header has come, and what */
	__u32 have;
	__u64 head;
	__u32 mark; /* client: in its first application data; server: the beginning of its ServerHello */
	__u32 last; /* of a packet: CLOCK_MONOTONIC in units of 2^20 ns */
	__u32 pad[4];
};
_Static_assert(sizeof(struct sl_watched) == 64, "one cache line");

struct sl_watch4 {
	struct sl_watched dir[2]; /* 48 + 16 = 64, as in the flow tables */
};
struct sl_watch6 {
	__u64 pad[4];
	struct sl_watched dir[2];
};

/* What a CPU has seen of the watch. */
struct sl_watch_count {
	__u64 begun;     /* flows that were taken into the table */
	__u64 left;      /* of these: taken out, as they began anew, ended, or were shunted */
	__u64 unwatched; /* packets whose flow was not, as too many new ones came */
	__u64 made[4];   /* shunts by reason, SL_MADE_* */
	__u64 full;      /* not made: the flow table was full */
	__u64 excepted;  /* not made: an exception covers the flow */
	__u64 held;      /* flows that were not shunted when it was time, as somebody holds them */
	__u64 window;    /* CLOCK_MONOTONIC ns from which new flows are counted */
	__u64 fresh;     /* taken in since then */
};

/*
 * What an owner notes about a flow beside its entry, for whoever comes after it when it has died: the gate never reads it.
 * The element of the hash table just fits into 1 KiB.
 */
struct sl_side_key {
	__u32 family; /* 4 or 6 */
	__u8 key[48];
};

struct sl_side {
	__u8 note[896];
};

/* Who made what is pinned here. */
struct sl_meta {
	__u32 layout;
	__u32 flags;
	__u64 instance;
	__u8 boot_id[16];
	__u32 pid;
	__u32 netns;
	__u32 ifindex;
	__u32 pad;
};

#endif
