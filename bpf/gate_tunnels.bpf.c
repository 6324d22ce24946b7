// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The gate that looks into tunnels. */
#define SLUICE_TUNNELS
#include "gate.bpf.c"
