// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The gate that looks in the tables of other sensors too, and into tunnels. */
#define SLUICE_PEERS
#define SLUICE_TUNNELS
#include "gate.bpf.c"
