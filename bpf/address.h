/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Addresses of both families in one form: those of IPv4 mapped (RFC 4291). */
#ifndef SLUICE_ADDRESS_H
#define SLUICE_ADDRESS_H

#include <bpf/bpf_endian.h>
#include "common.h"
#include "maps.h"

struct mapped {
	__u32 word[4];
};

static __always_inline void map4(struct mapped *to, __be32 addr)
{
	to->word[0] = 0;
	to->word[1] = 0;
	to->word[2] = bpf_htonl(0xffff);
	to->word[3] = addr;
}

static __always_inline bool same_mapped(const struct mapped *a, const struct mapped *b)
{
	return !((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]) | (a->word[2] ^ b->word[2]) |
		 (a->word[3] ^ b->word[3]));
}

/* Source and destination from a key of the packet's family. */
static __always_inline void mapped_ends(const struct sl_packet *p, const void *key, struct mapped *src, struct mapped *dst)
{
	if (p->family == 4 && !(cfg_tunnels && p->flags & SL_P_WIDE)) {
		const struct sl_key4 *k = key;
		__be32 low = k->low_addr, high = k->high_addr;

		/* Loaded before they are chosen: newer compilers choose the address by a bit operation, which the verifier refuses. */
		asm volatile("" : "+r"(low), "+r"(high));
		map4(src, p->dir ? high : low);
		map4(dst, p->dir ? low : high);
	} else {
		const struct sl_key6 *k = key;

		__builtin_memcpy(src, p->dir ? k->high_addr : k->low_addr, 16);
		__builtin_memcpy(dst, p->dir ? k->low_addr : k->high_addr, 16);
	}
}

#endif
