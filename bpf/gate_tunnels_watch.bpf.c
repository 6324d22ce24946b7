// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The gate that looks into tunnels, and shunts by itself. */
#define SLUICE_TUNNELS
#define SLUICE_WATCH
#include "gate.bpf.c"
