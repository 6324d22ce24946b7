/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Layouts shared by the generated rule programs, bpf/rules.bpf.c and, through BTF, src/rules/layout.gen.ts. */
#ifndef SLUICE_RULES_H
#define SLUICE_RULES_H

#include <linux/types.h>

/* Rules that may match one packet; what matches beyond that is counted and left out. */
#define SL_RULE_MATCHES 63

/* Where rule programs stand in the map `rules` behind SL_RULES_CHAIN: one of two halves, so that a new set never takes
 * the place of programs that packets are still in. */
enum sl_rules_chain {
	SL_RULES_ACT = 4, /* sluice_rules_act */
	SL_RULES_HALF = 8, /* first slot of the first half */
	SL_RULES_PER_HALF = 28,
};

/*
 * Which rules match the packet that this CPU is at. Between packets count and entry are 0: the generated programs and
 * sluice_rules_act leave them so.
 */
struct sl_rule_matches {
	__u32 count;
	__u32 entry;     /* where the next program of a chain begins */
	__u32 frame_len; /* of rules that ask for the length */
	__u32 place;     /* where in the packet the rules of a prefix begin */
	__u32 full;      /* packets of this CPU that matched more rules than there is room for */
	__u32 rule[SL_RULE_MATCHES];
};
_Static_assert(sizeof(struct sl_rule_matches) == 272, "no implicit padding");

/* Parts of a nanosecond that rate limits count in. */
#define SL_RULE_TIME 1024

enum sl_rule_action {
	SL_RULE_COUNT = 0,
	SL_RULE_DROP = 1,
	SL_RULE_LIMIT = 2,
	SL_RULE_SAMPLE = 3,
};

/* Of what a rate limit keeps a bucket: of the rule, or of each source or target prefix. */
enum sl_rule_per {
	SL_PER_RULE = 0,
	SL_PER_SOURCE = 1,
	SL_PER_TARGET = 2,
};

/*
 * What to do when a rule matches. A row never changes while a program names it, save `off`; a rule that is changed gets
 * another row.
 */
struct sl_rule {
	__u32 action; /* enum sl_rule_action */
	__u32 order;  /* lower comes first: the first drop wins */
	__u32 off;    /* 1: as if it did not match: the switch that works at once, at one load for each match */
	__u32 until;  /* CLOCK_MONOTONIC seconds, then it matches no more; 0: for ever */
	/* Limit: a packet costs per_packet + per_byte * L2 bytes; burst is what may be had at once. In 1/SL_RULE_TIME ns. */
	__u64 per_packet;
	__u64 per_byte;
	__u64 burst;
	__u32 per;         /* enum sl_rule_per */
	__u32 prefix4;     /* bits of the address that tell prefixes apart */
	__u32 prefix6;
	__u32 sample;      /* one packet in so many */
	__u32 sample_size; /* bytes of a sample at most */
	__u32 id;          /* its row: the number in samples and traces */
	__u64 bucket;      /* of SL_PER_RULE: the time up to which what was let through is paid for, in 1/SL_RULE_TIME ns */
};
_Static_assert(sizeof(struct sl_rule) == 72, "no implicit padding");

/* Per CPU and row. */
struct sl_rule_count {
	__u64 matched_pkts;
	__u64 matched_bytes; /* L2 bytes */
	__u64 dropped_pkts;
	__u64 dropped_bytes;
};

struct sl_bucket_key {
	__u8 addr[16];
	__u32 rule;
	__u32 pad;
};
_Static_assert(sizeof(struct sl_bucket_key) == 24, "no implicit padding");

/* Before the bytes of a sample. */
struct sl_sample {
	__u32 rule; /* row */
	__u32 frame_len;
	__u32 captured;
	__u32 ifindex;
	__u64 time; /* CLOCK_MONOTONIC ns, coarse */
};

#endif
