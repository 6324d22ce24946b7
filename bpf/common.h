/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef SLUICE_COMMON_H
#define SLUICE_COMMON_H

#include <stdbool.h>
#include <linux/types.h>

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Keeps a structure where it is: split into registers it would be filled in on each of many ways that leave it early. */
#define IN_MEMORY(x) asm volatile("" : : "r"(&(x)) : "memory")

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/*
 * The same number, which is from 1 to `most`, a power of two, in a form that the verifier of any kernel believes: before
 * Linux 6.8 it learns nothing from a test against 0.
 */
static __always_inline __u32 one_to(__u32 most, __u32 n)
{
	n--;
	/* Or the compiler, which knows more, leaves the mask out. */
	asm volatile("" : "+r"(n));
	return (n & (most - 1)) + 1;
}

/* Of sl_dir.state. */
#define STATE(word) ((word) & 0xff)
#define OWNER(word) ((word) >> 16)

#endif
