// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The gate that looks in the tables of other sensors too. */
#define SLUICE_PEERS
#include "gate.bpf.c"
