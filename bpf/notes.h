/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a capture at the exit hook wants to know of a decision, left in the scratch. */
#ifndef SLUICE_NOTES_H
#define SLUICE_NOTES_H

#include "common.h"
#include "maps.h"

/* Whose entry decided, where that cannot be looked up any more when the packet leaves. */
__noinline int note_owner(__u32 owner)
{
	__u32 zero = 0;
	struct sl_packet *s = bpf_map_lookup_elem(&scratch, &zero);

	if (s)
		s->owner = owner;
	return 0;
}

/* Verdicts that come from the entry of a connection. */
static __always_inline bool of_entry(__u32 verdict)
{
	return verdict == SL_V_SHUNTED || (verdict >= SL_V_PASS_ARMED && verdict <= SL_V_PASS_IDLE) ||
	       verdict == SL_V_PASS_LIMIT;
}

/* Looked up once more: on the way of a packet that nobody captures a note would cost something. */
static __always_inline bool find_owner(const struct sl_packet *p, __u32 *owner)
{
	struct sl_key6 key;

	__builtin_memcpy(&key, p->key, sizeof(key));
	if (p->family == 4 && !(cfg_tunnels && p->flags & SL_P_WIDE)) {
		struct sl_value4 *v = bpf_map_lookup_elem(&flows4, &key);

		if (v)
			*owner = OWNER(v->flow.dir[0].state);
		return v;
	}
	struct sl_value6 *v = bpf_map_lookup_elem(&flows6, &key);

	if (v)
		*owner = OWNER(v->flow.dir[0].state);
	return v;
}

/* Not static: the verifier looks at it once, not once for each way that leads here. */
__noinline int note(const struct sl_packet *p, __u32 verdict)
{
	__u32 zero = 0, noted = SL_NOTED;
	struct sl_packet *s = bpf_map_lookup_elem(&scratch, &zero);

	if (!p || !s)
		return 0;
	if (verdict == SL_V_SHUNTED_PAIR)
		noted |= SL_NOTED_OWNER;
	else if (of_entry(verdict) && (p->flags & SL_P_FRAGMENT || find_owner(p, &s->owner)))
		noted |= SL_NOTED_OWNER;
	s->verdict = verdict;
	s->noted = noted;
	return 0;
}

#endif
