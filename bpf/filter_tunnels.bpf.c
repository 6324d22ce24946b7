// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The socket filter that looks into tunnels. */
#define SLUICE_TUNNELS
#include "filter.bpf.c"
