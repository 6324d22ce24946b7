/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shunting: one look-up, the books, then pairs. */
#ifndef SLUICE_SHUNT_H
#define SLUICE_SHUNT_H

#include "books.h"
#include "fragments.h"
#include "pairs.h"
#include "peers.h"

/* The key has the form of IPv4 in the room of IPv6. */
static __always_inline int shunt4(struct sl_packet *p, const struct sl_key6 *key, struct sl_ledger *mine,
				  __u32 cpu, int verdict)
{
	if (likely(verdict == SL_V_SHUNTED)) {
		struct sl_value4 *v = bpf_map_lookup_elem(&flows4, key);

		if (v)
			return on_hit(&v->flow, p, cpu, clock(mine));
		verdict = SL_V_PASS_NO_ENTRY;
	} else if (cfg_fragments && p->flags & SL_P_FRAGMENT) {
		verdict = on_fragment(p, key, cpu, clock(mine));
		if (verdict != SL_V_PASS_FRAGMENT)
			return verdict;
	}
	return on_others(p, key, mine, verdict);
}

static __always_inline int shunt6(struct sl_packet *p, const struct sl_key6 *key, struct sl_ledger *mine,
				  __u32 cpu, int verdict)
{
	if (likely(verdict == SL_V_SHUNTED)) {
		struct sl_value6 *v = bpf_map_lookup_elem(&flows6, key);

		if (v)
			return on_hit(&v->flow, p, cpu, clock(mine));
		verdict = SL_V_PASS_NO_ENTRY;
	} else if (cfg_fragments && p->flags & SL_P_FRAGMENT) {
		verdict = on_fragment(p, key, cpu, clock(mine));
		if (verdict != SL_V_PASS_FRAGMENT)
			return verdict;
	}
	return on_others(p, key, mine, verdict);
}

#endif
