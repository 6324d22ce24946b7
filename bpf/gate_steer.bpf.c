// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The gate that hands what passes to CPUs; all the rest is in it too, behind constants. */
#define SLUICE_STEER
#define SLUICE_PEERS
#define SLUICE_TUNNELS
#include "gate.bpf.c"
