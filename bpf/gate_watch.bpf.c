// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The gate that shunts by itself: by what it watches, or after a threshold. */
#define SLUICE_WATCH
#include "gate.bpf.c"
