// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The socket filter that looks into tunnels, and shunts by itself after a threshold. */
#define SLUICE_TUNNELS
#define SLUICE_WATCH
#include "filter.bpf.c"
