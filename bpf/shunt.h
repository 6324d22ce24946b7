/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shunting: one look-up, the books, then pairs. */
#ifndef SLUICE_SHUNT_H
#define SLUICE_SHUNT_H

#include "books.h"
#include "clock.h"
#include "pairs.h"

static __always_inline int shunt4(const struct sl_packet *p, const struct sl_key4 *key, struct sl_ledger *mine,
				  __u32 cpu, int verdict)
{
	if (likely(verdict == SL_V_SHUNTED)) {
		struct sl_value4 *v = bpf_map_lookup_elem(&flows4, key);

		if (v)
			return on_hit(&v->flow, p, cpu, clock(mine));
		verdict = SL_V_PASS_NO_ENTRY;
	}
	return p->family ? on_pairs4(p, key, mine, verdict) : verdict;
}

static __always_inline int shunt6(const struct sl_packet *p, const struct sl_key6 *key, struct sl_ledger *mine,
				  __u32 cpu, int verdict)
{
	if (likely(verdict == SL_V_SHUNTED)) {
		struct sl_value6 *v = bpf_map_lookup_elem(&flows6, key);

		if (v)
			return on_hit(&v->flow, p, cpu, clock(mine));
		verdict = SL_V_PASS_NO_ENTRY;
	}
	return p->family ? on_pairs6(p, key, mine, verdict) : verdict;
}

#endif
