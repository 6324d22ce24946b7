/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Does with pinned flow tables what Suricata does, in user space's own form of the keys (three VLAN ids, of which the table
 * takes two): opens them by interface, adds both directions with BPF_NOEXIST, sums counters up over configured CPUs, walks,
 * deletes.
 *
 *   suricata IFACE percpu|shared [host]
 *
 * reads commands, one a line, and answers each with one: add|read|delete|churn 4|6 tcp|udp SRC SPORT DST DPORT VLAN VLAN, or walk 4|6.
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

struct key4 {
	uint32_t src;
	uint32_t dst;
	uint16_t ports[2];
	uint8_t is_tcp : 1;
	uint16_t vlan0 : 15;
	uint16_t vlan1;
	uint16_t vlan2;
};

struct key6 {
	uint32_t src[4];
	uint32_t dst[4];
	uint16_t ports[2];
	uint8_t is_tcp : 1;
	uint16_t vlan0 : 15;
	uint16_t vlan1;
	uint16_t vlan2;
};

union key {
	struct key4 v4;
	struct key6 v6;
};

struct pair {
	uint64_t packets;
	uint64_t bytes;
};

static int cpus;
static bool host_order;

static int open_table(const char *iface, const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/sys/fs/bpf/suricata-%s-%s", iface, name);
	fd = bpf_obj_get(path);
	if (fd < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	return fd;
}

static void turned(uint32_t *words, int count)
{
	for (int i = 0; host_order && i < count; i++)
		words[i] = ntohl(words[i]);
}

static void make(union key *k, int family, const char *proto, const char *src, const char *sport, const char *dst,
		 const char *dport, int vlan0, int vlan1)
{
	uint16_t ports[2] = { atoi(sport), atoi(dport) };

	memset(k, 0, sizeof(*k));
	if (!host_order)
		for (int i = 0; i < 2; i++)
			ports[i] = htons(ports[i]);
	if (family == 4) {
		inet_pton(AF_INET, src, &k->v4.src);
		inet_pton(AF_INET, dst, &k->v4.dst);
		turned(&k->v4.src, 1);
		turned(&k->v4.dst, 1);
		memcpy(k->v4.ports, ports, 4);
		k->v4.is_tcp = !strcmp(proto, "tcp");
		k->v4.vlan0 = vlan0;
		k->v4.vlan1 = vlan1;
	} else {
		inet_pton(AF_INET6, src, k->v6.src);
		inet_pton(AF_INET6, dst, k->v6.dst);
		turned(k->v6.src, 4);
		turned(k->v6.dst, 4);
		memcpy(k->v6.ports, ports, 4);
		k->v6.is_tcp = !strcmp(proto, "tcp");
		k->v6.vlan0 = vlan0;
		k->v6.vlan1 = vlan1;
	}
}

static const char *add(int fd, union key *k)
{
	struct pair values[cpus];

	memset(values, 0, sizeof(values));
	if (bpf_map_update_elem(fd, k, values, BPF_NOEXIST) == 0)
		return "added";
	return errno == EEXIST ? "exists" : errno == E2BIG ? "full" : strerror(errno);
}

static bool sum(int fd, union key *k, struct pair *out)
{
	struct pair values[cpus];

	memset(values, 0, sizeof(values));
	memset(out, 0, sizeof(*out));
	if (bpf_map_lookup_elem(fd, k, values) < 0)
		return false;
	for (int i = 0; i < cpus; i++) {
		out->packets += values[i].packets;
		out->bytes += values[i].bytes;
	}
	return true;
}

static void walk(int fd, int family)
{
	union key key, next;
	struct pair of;
	int flows = 0;
	unsigned long long packets = 0, bytes = 0;

	memset(&key, 0, sizeof(key));
	memset(&next, 0, sizeof(next));
	while (bpf_map_get_next_key(fd, &key, &next) == 0) {
		if (sum(fd, &next, &of)) {
			flows++;
			packets += of.packets;
			bytes += of.bytes;
		}
		key = next;
	}
	printf("%d %llu %llu\n", flows, packets, bytes);
	(void)family;
}

int main(int argc, char **argv)
{
	char line[512], command[16], proto[8], src[64], sport[8], dst[64], dport[8];
	int family, vlan0, vlan1, tables[2];

	if (argc < 3)
		return 2;
	/* As Suricata: by configured CPUs, where the kernel writes one value for each possible one. */
	cpus = strcmp(argv[2], "shared") ? (int)sysconf(_SC_NPROCESSORS_CONF) : 1;
	host_order = argc > 3;
	tables[0] = open_table(argv[1], "flow_table_v4");
	tables[1] = open_table(argv[1], "flow_table_v6");
	for (const char **extra = (const char *[]){ "cpu_map", "cpus_available", "tx_peer", "tx_peer_int", 0 }; *extra; extra++)
		close(open_table(argv[1], *extra));
	setvbuf(stdout, 0, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		union key keys[2];
		int n = sscanf(line, "%15s %d %7s %63s %7s %63s %7s %d %d", command, &family, proto, src, sport, dst, dport, &vlan0,
			       &vlan1);
		int fd = tables[family == 6];

		if (n == 2 && !strcmp(command, "walk")) {
			walk(fd, family);
			continue;
		}
		if (n != 9) {
			printf("what?\n");
			continue;
		}
		make(&keys[0], family, proto, src, sport, dst, dport, vlan0, vlan1);
		make(&keys[1], family, proto, dst, dport, src, sport, vlan0, vlan1);
		if (!strcmp(command, "add")) {
			const char *first = add(fd, &keys[0]), *second = "";

			if (!strcmp(first, "added") || !strcmp(first, "exists")) {
				second = add(fd, &keys[1]);
				/* Half a flow is none. */
				if (strcmp(second, "added") && strcmp(second, "exists"))
					bpf_map_delete_elem(fd, &keys[0]);
			}
			printf("%s %s\n", first, second);
		} else if (!strcmp(command, "read")) {
			struct pair of[2];
			bool there[2] = { sum(fd, &keys[0], &of[0]), sum(fd, &keys[1], &of[1]) };

			if (!there[0] || !there[1])
				printf("none\n");
			else
				printf("%llu %llu %llu %llu\n", (unsigned long long)of[0].packets, (unsigned long long)of[0].bytes,
				       (unsigned long long)of[1].packets, (unsigned long long)of[1].bytes);
		} else if (!strcmp(command, "churn")) {
			/* A flow that comes and goes: what was read of it in all. */
			unsigned long long packets = 0, found = 0;
			struct pair of;

			for (int i = 0; i < 500; i++) {
				add(fd, &keys[0]);
				add(fd, &keys[1]);
				usleep(50);
				for (int k = 0; k < 2; k++) {
					found += sum(fd, &keys[k], &of);
					packets += of.packets;
					bpf_map_delete_elem(fd, &keys[k]);
				}
			}
			printf("%llu %llu\n", found, packets);
		} else {
			int gone = bpf_map_delete_elem(fd, &keys[0]) == 0;

			gone += bpf_map_delete_elem(fd, &keys[1]) == 0;
			printf("deleted %d\n", gone);
		}
	}
	return 0;
}
