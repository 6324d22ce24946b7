/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Does with a pinned exit hook what xdpcap does: checks type, key and value size; for each of its slots loads a program without
 * an expected attach type, first without frags and then with, that counts, matches and hands a sample to a perf event array;
 * puts it in by number of the action; writes pcapng with an interface for each action.
 *
 *   xdpcap HOOK FILE UDP_PORT
 *
 * captures UDP over IPv4 without options to that port, or everything with 0. Reads commands, one a line, and answers each with
 * one: kind (frags or plain, and the attach type), poll (samples so far), counts ACTION (received, matched, not handed
 * over), close.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACTIONS 5
#define INSN(c, d, s, o, i) ((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })
#define MOV_REG(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOV_IMM(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD_IMM(d, i) INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define LOAD(size, d, s, o) INSN(BPF_LDX | (size) | BPF_MEM, d, s, o, 0)
#define STORE(size, d, o, s) INSN(BPF_STX | (size) | BPF_MEM, d, s, o, 0)
#define STORE_IMM(size, d, o, i) INSN(BPF_ST | (size) | BPF_MEM, d, 0, o, i)
#define JUMP(op, d, i, o) INSN(BPF_JMP | (op) | BPF_K, d, 0, o, i)
#define CALL(f) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)

static const char *const names[ACTIONS] = { "XDPaborted", "XDPdrop", "XDPpass", "XDPtx", "XDPredirect" };
static int hook, programs[ACTIONS], counts[ACTIONS];
static uint32_t slots;
static unsigned long samples;
static FILE *file;

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* Returns the number of instructions; `exit` is the last but one. */
static int build(struct bpf_insn *p, int action, int perf, int port)
{
	int n = 0, at[8], jumps = 0;

	p[n++] = MOV_REG(BPF_REG_6, BPF_REG_1);
	p[n++] = INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, counts[action]);
	p[n++] = INSN(0, 0, 0, 0, 0);
	p[n++] = MOV_REG(BPF_REG_2, BPF_REG_10);
	p[n++] = ADD_IMM(BPF_REG_2, -4);
	p[n++] = STORE_IMM(BPF_W, BPF_REG_2, 0, 0);
	p[n++] = CALL(BPF_FUNC_map_lookup_elem);
	at[jumps++] = n, p[n++] = JUMP(BPF_JEQ, BPF_REG_0, 0, 0);
	p[n++] = MOV_REG(BPF_REG_7, BPF_REG_0);
	p[n++] = LOAD(BPF_W, BPF_REG_0, BPF_REG_6, 0);
	p[n++] = LOAD(BPF_W, BPF_REG_1, BPF_REG_6, 4);
	p[n++] = MOV_REG(BPF_REG_8, BPF_REG_1);
	p[n++] = INSN(BPF_ALU64 | BPF_SUB | BPF_X, BPF_REG_8, BPF_REG_0, 0, 0);
	p[n++] = LOAD(BPF_DW, BPF_REG_2, BPF_REG_7, 0);
	p[n++] = ADD_IMM(BPF_REG_2, 1);
	p[n++] = STORE(BPF_DW, BPF_REG_7, 0, BPF_REG_2);
	if (port) {
		p[n++] = MOV_REG(BPF_REG_2, BPF_REG_0);
		p[n++] = ADD_IMM(BPF_REG_2, 38);
		at[jumps++] = n, p[n++] = INSN(BPF_JMP | BPF_JGT | BPF_X, BPF_REG_2, BPF_REG_1, 0, 0);
		p[n++] = LOAD(BPF_H, BPF_REG_2, BPF_REG_0, 12);
		at[jumps++] = n, p[n++] = JUMP(BPF_JNE, BPF_REG_2, 8, 0);
		p[n++] = LOAD(BPF_B, BPF_REG_2, BPF_REG_0, 23);
		at[jumps++] = n, p[n++] = JUMP(BPF_JNE, BPF_REG_2, 17, 0);
		p[n++] = LOAD(BPF_H, BPF_REG_2, BPF_REG_0, 36);
		at[jumps++] = n, p[n++] = JUMP(BPF_JNE, BPF_REG_2, (port & 0xff) << 8 | port >> 8, 0);
	}
	p[n++] = LOAD(BPF_DW, BPF_REG_0, BPF_REG_7, 8);
	p[n++] = ADD_IMM(BPF_REG_0, 1);
	p[n++] = STORE(BPF_DW, BPF_REG_7, 8, BPF_REG_0);
	p[n++] = MOV_REG(BPF_REG_1, BPF_REG_6);
	p[n++] = INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_2, BPF_PSEUDO_MAP_FD, 0, perf);
	p[n++] = INSN(0, 0, 0, 0, 0);
	p[n++] = MOV_REG(BPF_REG_3, BPF_REG_8);
	p[n++] = INSN(BPF_ALU64 | BPF_LSH | BPF_K, BPF_REG_3, 0, 0, 32);
	p[n++] = INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_0, 0, 0, (int)BPF_F_CURRENT_CPU);
	p[n++] = INSN(0, 0, 0, 0, 0);
	p[n++] = INSN(BPF_ALU64 | BPF_OR | BPF_X, BPF_REG_3, BPF_REG_0, 0, 0);
	p[n++] = MOV_REG(BPF_REG_4, BPF_REG_10);
	p[n++] = ADD_IMM(BPF_REG_4, -8);
	p[n++] = STORE(BPF_DW, BPF_REG_4, 0, BPF_REG_8);
	p[n++] = ADD_IMM(BPF_REG_4, -8);
	p[n++] = STORE_IMM(BPF_DW, BPF_REG_4, 0, action);
	p[n++] = MOV_IMM(BPF_REG_5, 16);
	p[n++] = CALL(BPF_FUNC_perf_event_output);
	at[jumps++] = n, p[n++] = JUMP(BPF_JEQ, BPF_REG_0, 0, 0);
	p[n++] = LOAD(BPF_DW, BPF_REG_0, BPF_REG_7, 16);
	p[n++] = ADD_IMM(BPF_REG_0, 1);
	p[n++] = STORE(BPF_DW, BPF_REG_7, 16, BPF_REG_0);
	for (int i = 0; i < jumps; i++)
		p[at[i]].off = n - at[i] - 1;
	p[n++] = MOV_IMM(BPF_REG_0, action);
	p[n++] = INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	return n;
}

/* 0, or the negative errno with which the hook refused it. */
static int enter(int action, int perf, int port, __u32 flags)
{
	struct bpf_insn code[80];
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .prog_flags = flags);
	int size = build(code, action, perf, port);
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "xdpcap_filter", "GPL", code, size, &opts);

	if (fd < 0)
		fail("load a filter");
	if (bpf_map_update_elem(hook, &action, &fd, BPF_ANY)) {
		int error = -errno;

		close(fd);
		return error;
	}
	programs[action] = fd;
	return 0;
}

static void block(uint32_t type, const void *body, uint32_t size)
{
	uint32_t head[2] = { type, 12 + size };

	fwrite(head, 8, 1, file);
	fwrite(body, size, 1, file);
	fwrite(&head[1], 4, 1, file);
}

static void option(uint8_t *to, uint32_t *at, uint16_t code, const char *text)
{
	uint16_t length = strlen(text);

	memcpy(to + *at, &code, 2);
	memcpy(to + *at + 2, &length, 2);
	memcpy(to + *at + 4, text, length);
	*at += 4 + ((length + 3) & ~3U);
}

static void write_head(void)
{
	struct {
		uint32_t magic;
		uint16_t major, minor;
		int64_t length;
	} section = { 0x1a2b3c4d, 1, 0, -1 };

	block(0x0a0d0d0a, &section, 16);
	for (uint32_t i = 0; i < slots; i++) {
		uint8_t body[128] = { 1, 0, 0, 0, 0xff, 0xff, 0, 0 };
		uint32_t at = 8;

		option(body, &at, 1, "XDP action");
		option(body, &at, 2, names[i]);
		at += 4;
		block(1, body, at);
	}
}

static void sample(void *ctx, int cpu, void *data, __u32 size)
{
	static uint8_t body[20 + 65536];
	uint64_t action, length;
	uint32_t head[5] = { 0 };

	(void)ctx;
	(void)cpu;
	if (size < 16)
		return;
	memcpy(&action, data, 8);
	memcpy(&length, data + 8, 8);
	if (length > size - 16 || length > 65535 || action >= slots)
		return;
	head[0] = action;
	head[3] = head[4] = length;
	memset(body, 0, 20 + ((length + 3) & ~3U));
	memcpy(body, head, 20);
	memcpy(body + 20, (uint8_t *)data + 16, length);
	block(6, body, 20 + ((length + 3) & ~3U));
	samples++;
}

int main(int argc, char **argv)
{
	struct bpf_map_info map = {};
	__u32 size = sizeof(map), flags = 0;
	struct perf_buffer *reader;
	char line[64];
	int perf;

	if (argc != 4)
		return 2;
	hook = bpf_obj_get(argv[1]);
	if (hook < 0 || bpf_obj_get_info_by_fd(hook, &map, &size))
		fail(argv[1]);
	if (map.type != BPF_MAP_TYPE_PROG_ARRAY || map.key_size != 4 || map.value_size != 4) {
		fprintf(stderr, "%s is no hook\n", argv[1]);
		return 1;
	}
	slots = map.max_entries < ACTIONS ? map.max_entries : ACTIONS;
	perf = bpf_map_create(BPF_MAP_TYPE_PERF_EVENT_ARRAY, "xdpcap_perf", 4, 4, libbpf_num_possible_cpus(), NULL);
	if (perf < 0)
		fail("create the perf event array");
	reader = perf_buffer__new(perf, 64, sample, NULL, NULL, NULL);
	if (!reader)
		fail("open the perf events");
	file = fopen(argv[2], "w");
	if (!file)
		fail(argv[2]);
	write_head();
	for (uint32_t i = 0; i < slots; i++) {
		int error;

		counts[i] = bpf_map_create(BPF_MAP_TYPE_PERCPU_ARRAY, "xdpcap_metrics", 4, 24, 1, NULL);
		if (counts[i] < 0)
			fail("create the counters");
		error = enter(i, perf, atoi(argv[3]), flags);
		if (error == -EINVAL && !i) {
			flags = BPF_F_XDP_HAS_FRAGS;
			error = enter(i, perf, atoi(argv[3]), flags);
		}
		if (error) {
			errno = -error;
			fail("put a filter into the hook");
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		int action;

		if (!strncmp(line, "kind", 4)) {
			printf("%s 0\n", flags ? "frags" : "plain");
		} else if (!strncmp(line, "poll", 4)) {
			perf_buffer__consume(reader);
			fflush(file);
			printf("%lu\n", samples);
		} else if (sscanf(line, "counts %d", &action) == 1 && action >= 0 && (uint32_t)action < slots) {
			int cpus = libbpf_num_possible_cpus();
			uint64_t sum[3] = { 0 }, *values = calloc(cpus, 24);
			__u32 zero = 0;

			if (!values || bpf_map_lookup_elem(counts[action], &zero, values))
				fail("read the counters");
			for (int i = 0; i < 3 * cpus; i++)
				sum[i % 3] += values[i];
			free(values);
			printf("%lu %lu %lu\n", sum[0], sum[1], sum[2]);
		} else if (!strncmp(line, "close", 5)) {
			for (uint32_t i = 0; i < slots; i++)
				bpf_map_delete_elem(hook, &i);
			printf("closed\n");
		} else {
			printf("?\n");
		}
	}
	return 0;
}
