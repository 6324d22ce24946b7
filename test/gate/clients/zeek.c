/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Does with pinned shunting tables what Zeek's plugin of xdp-zeek does: opens them in a directory, sorts addresses as two
 * words of the machine, writes empty values with BPF_ANY, reads, walks, reads once more and deletes.
 *
 *   zeek DIRECTORY
 *
 * reads commands, one a line, and answers each with one: shunt|stats|unshunt|churn PROTO ORIG PORT RESP PORT VLAN VLAN,
 * pair|pair-stats|unpair ADDR ADDR VLAN VLAN, or walk.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tuple {
	struct in6_addr ip1;
	struct in6_addr ip2;
	uint16_t port1;
	uint16_t port2;
	uint16_t protocol;
	uint16_t outer_vlan;
	uint16_t inner_vlan;
};

struct pair {
	struct in6_addr ip1;
	struct in6_addr ip2;
	uint16_t outer_vlan;
	uint16_t inner_vlan;
};

struct value {
	uint32_t lock;
	uint64_t packets_from_1;
	uint64_t packets_from_2;
	uint64_t bytes_from_1;
	uint64_t bytes_from_2;
	uint64_t timestamp;
};

static int open_table(const char *directory, const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = bpf_obj_get(path);
	if (fd < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	return fd;
}

static void address(const char *text, struct in6_addr *out)
{
	char mapped[80];

	if (!strchr(text, ':')) {
		snprintf(mapped, sizeof(mapped), "::ffff:%s", text);
		text = mapped;
	}
	inet_pton(AF_INET6, text, out);
}

static int compare(const struct in6_addr *a, const struct in6_addr *b)
{
	uint64_t x[2], y[2];

	memcpy(x, a, 16);
	memcpy(y, b, 16);
	if (x[0] != y[0])
		return x[0] < y[0] ? -1 : 1;
	return x[1] < y[1] ? -1 : x[1] > y[1];
}

/* Counts as of the originator, then of the responder, and whether there was a time. */
static void tell(const struct value *v, bool orig_is_1)
{
	printf("%llu %llu %llu %llu %d\n", (unsigned long long)(orig_is_1 ? v->packets_from_1 : v->packets_from_2),
	       (unsigned long long)(orig_is_1 ? v->bytes_from_1 : v->bytes_from_2),
	       (unsigned long long)(orig_is_1 ? v->packets_from_2 : v->packets_from_1),
	       (unsigned long long)(orig_is_1 ? v->bytes_from_2 : v->bytes_from_1), v->timestamp != 0);
}

static void act(int fd, const char *command, void *key, bool orig_is_1)
{
	struct value v;

	if (!strcmp(command, "shunt") || !strcmp(command, "pair")) {
		memset(&v, 0, sizeof(v));
		printf("%s\n", bpf_map_update_elem(fd, key, &v, BPF_ANY) == 0 ? "done" : strerror(errno));
		return;
	}
	if (bpf_map_lookup_elem(fd, key, &v) != 0) {
		printf("none\n");
		return;
	}
	if (!strncmp(command, "un", 2) && bpf_map_delete_elem(fd, key) != 0) {
		printf("none\n");
		return;
	}
	tell(&v, orig_is_1);
}

/* A connection that is shunted and unshunted again and again: what was read of it in all. */
static void churn(int fd, struct tuple *k)
{
	unsigned long long packets = 0;
	struct value v;
	int found = 0;

	for (int i = 0; i < 500; i++) {
		memset(&v, 0, sizeof(v));
		bpf_map_update_elem(fd, k, &v, BPF_ANY);
		usleep(50);
		if (bpf_map_lookup_elem(fd, k, &v) == 0) {
			found++;
			packets += v.packets_from_1 + v.packets_from_2;
		}
		bpf_map_delete_elem(fd, k);
	}
	printf("%d %llu\n", found, packets);
}

static void walk(int fd)
{
	struct tuple key, *before = 0, next;
	struct value v;
	unsigned long long packets = 0;
	int flows = 0;

	while (bpf_map_get_next_key(fd, before, &next) == 0) {
		if (bpf_map_lookup_elem(fd, &next, &v) == 0) {
			flows++;
			packets += v.packets_from_1 + v.packets_from_2;
		}
		key = next;
		before = &key;
	}
	printf("%d %llu\n", flows, packets);
}

int main(int argc, char **argv)
{
	char line[512], command[16], orig[64], resp[64];
	int tuples, pairs, proto, sport, dport, vlan0, vlan1;

	if (argc < 2)
		return 2;
	tuples = open_table(argv[1], "shunt_map");
	pairs = open_table(argv[1], "ip_pair_map");
	setvbuf(stdout, 0, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		struct in6_addr a, b;

		if (!strncmp(line, "walk", 4)) {
			walk(tuples);
		} else if (sscanf(line, "%15s %d %63s %d %63s %d %d %d", command, &proto, orig, &sport, resp, &dport, &vlan0,
				  &vlan1) == 8) {
			struct tuple k;
			bool first;

			address(orig, &a);
			address(resp, &b);
			first = compare(&a, &b) < 0;
			memset(&k, 0, sizeof(k));
			k.ip1 = first ? a : b;
			k.ip2 = first ? b : a;
			k.port1 = first ? sport : dport;
			k.port2 = first ? dport : sport;
			k.protocol = proto;
			k.outer_vlan = vlan0;
			k.inner_vlan = vlan1;
			if (!strcmp(command, "churn"))
				churn(tuples, &k);
			else
				act(tuples, command, &k, first);
		} else if (sscanf(line, "%15s %63s %63s %d %d", command, orig, resp, &vlan0, &vlan1) == 5) {
			struct pair k;
			bool first;

			address(orig, &a);
			address(resp, &b);
			first = compare(&a, &b) < 0;
			memset(&k, 0, sizeof(k));
			k.ip1 = first ? a : b;
			k.ip2 = first ? b : a;
			k.outer_vlan = vlan0;
			k.inner_vlan = vlan1;
			act(pairs, command, &k, first);
		} else {
			printf("what?\n");
		}
	}
	return 0;
}
