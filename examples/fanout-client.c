// SPDX-License-Identifier: BSD-2-Clause
/*
 * An AF_PACKET sensor at its smallest: some sockets in a fanout group of their own, balanced by the program that
 * `sluice fanout pin` has pinned. Prints a line for each frame: which socket got it, and the Ethernet source address.
 *
 *   cc -Wall -o fanout-client fanout-client.c -lbpf
 *   ./fanout-client eth1 /sys/fs/bpf/sluice/fanout/program 4 1000       four sockets, until 1000 frames have come
 *   ./fanout-client eth1 none 4 1000 23                                 without the program, as the group 23
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 64
#define SECONDS 30

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

int main(int argc, char **argv)
{
	struct pollfd sockets[MOST];
	struct sockaddr_ll where = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int count, left, program = -1, buffer = 8 << 20;
	uint32_t group;

	if (argc < 5 || (count = atoi(argv[3])) < 1 || count > MOST) {
		fprintf(stderr, "usage: %s IFACE PIN|none SOCKETS FRAMES [GROUP]\n", argv[0]);
		return 2;
	}
	left = atoi(argv[4]);
	where.sll_ifindex = if_nametoindex(argv[1]);
	if (where.sll_ifindex == 0)
		fail(argv[1]);
	if (strcmp(argv[2], "none") != 0 && (program = bpf_obj_get(argv[2])) < 0)
		fail(argv[2]);
	group = PACKET_FANOUT_EBPF << 16;
	/* Without an id of our own the kernel picks one that nobody has. */
	group |= argc > 5 ? (uint32_t)atoi(argv[5]) & 0xffff : PACKET_FANOUT_FLAG_UNIQUEID << 16;
	for (int i = 0; i < count; i++) {
		socklen_t size = sizeof(group);
		int yes = 1, fd = socket(AF_PACKET, SOCK_RAW, 0);

		if (fd < 0)
			fail("socket");
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes));
		if (bind(fd, (struct sockaddr *)&where, sizeof(where)) < 0)
			fail("bind");
		if (setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, sizeof(group)) < 0)
			fail("PACKET_FANOUT");
		/* The program is the group's: the first member gives it. */
		if (i == 0 && program >= 0 && setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, &program, sizeof(program)) < 0)
			fail("PACKET_FANOUT_DATA");
		/* The others join the group that the first one is in. */
		if (getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, &size) < 0)
			fail("PACKET_FANOUT");
		sockets[i] = (struct pollfd){ .fd = fd, .events = POLLIN };
	}
	fprintf(stderr, "ready\n");
	while (left > 0) {
		if (poll(sockets, count, SECONDS * 1000) <= 0)
			fail("poll");
		for (int i = 0; i < count; i++) {
			uint8_t f[2048];
			ssize_t n;

			while (left > 0 && (n = recv(sockets[i].fd, f, sizeof(f), MSG_DONTWAIT)) >= ETH_HLEN) {
				printf("%d %02x:%02x:%02x:%02x:%02x:%02x\n", i, f[6], f[7], f[8], f[9], f[10], f[11]);
				left--;
			}
		}
	}
	return 0;
}
