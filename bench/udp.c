/*
 * The other side of `sluice bench udp`, and what its receivers are measured against:
 *
 *   udp send ADDRESS PORT BYTES RATE COUNT CPU     sends COUNT datagrams at RATE per second, in bursts
 *   udp receive ADDRESS BATCH CPU                  prints its port; for each line on stdin, what it has received, the
 *                                                  nanoseconds of CPU that took, and a sum over it
 *
 * The receiver does what ours does: recvmmsg in batches, with times and drops from the kernel, once woken every other
 * millisecond while datagrams come.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BURST 32
#define MAX_BATCH 1024
#define SLOT 65600
#define BUFFER (16 << 20)

static int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static int send_all(const char *address, int port, int bytes, double rate, long count)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	static char payload[SLOT];
	struct mmsghdr messages[BURST] = { 0 };
	struct iovec parts[BURST];
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die("connect");
	for (int i = 0; i < BURST; i++) {
		parts[i] = (struct iovec){ payload, bytes };
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	int64_t begin = now_ns(CLOCK_MONOTONIC);
	for (long sent = 0; sent < count;) {
		while (now_ns(CLOCK_MONOTONIC) < begin + (int64_t)(sent / rate * 1e9))
			;
		int want = count - sent < BURST ? count - sent : BURST;
		int done = sendmmsg(fd, messages, want, 0);
		if (done < 0 && errno != EINTR && errno != ENOBUFS && errno != ECONNREFUSED)
			die("sendmmsg");
		if (done > 0)
			sent += done;
	}
	printf("%.0f\n", count / ((now_ns(CLOCK_MONOTONIC) - begin) / 1e9));
	return 0;
}

static struct mmsghdr messages[MAX_BATCH];
static struct iovec parts[MAX_BATCH];
static char controls[MAX_BATCH][CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(uint32_t))];

/* What whoever looks at the datagrams would need. */
static uint64_t packets, sum;
static int64_t last_time;
static uint32_t last_drops;

static void take(struct mmsghdr *message)
{
	struct msghdr *header = &message->msg_hdr;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec t;
			memcpy(&t, CMSG_DATA(c), sizeof(t));
			last_time = t.tv_sec * 1000000000LL + t.tv_nsec;
		} else if (c->cmsg_type == SO_RXQ_OVFL) {
			memcpy(&last_drops, CMSG_DATA(c), sizeof(last_drops));
		}
	}
	header->msg_controllen = sizeof(controls[0]);
	packets++;
	sum += message->msg_len + *(unsigned char *)header->msg_iov->iov_base;
}

static long take_all(int fd, int batch)
{
	long taken = 0;

	for (;;) {
		int got = recvmmsg(fd, messages, batch, MSG_DONTWAIT | MSG_TRUNC, NULL);

		for (int n = 0; n < got; n++)
			take(&messages[n]);
		taken += got > 0 ? got : 0;
		if (got < batch)
			return taken;
	}
}

static int receive(const char *address, int batch)
{
	struct sockaddr_in here = { .sin_family = AF_INET };
	struct timespec quiet = { .tv_nsec = 2000000 };
	socklen_t length = sizeof(here);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), on = 1, buffer = BUFFER, waiter = epoll_create1(0);
	char *memory = malloc((size_t)batch * SLOT);

	if (fd < 0 || waiter < 0 || !memory || inet_pton(AF_INET, address, &here.sin_addr) != 1)
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer)))
		die("SO_RCVBUF");
	if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on)) ||
	    bind(fd, (struct sockaddr *)&here, sizeof(here)) || getsockname(fd, (struct sockaddr *)&here, &length))
		die("bind");
	for (int i = 0; i < batch; i++) {
		parts[i] = (struct iovec){ memory + (size_t)i * SLOT, SLOT };
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_control = controls[i];
		messages[i].msg_hdr.msg_controllen = sizeof(controls[i]);
	}
	for (int i = 0; i < 2; i++) {
		int each = i ? fd : STDIN_FILENO;
		struct epoll_event event = { .events = EPOLLIN, .data.fd = each };
		if (epoll_ctl(waiter, EPOLL_CTL_ADD, each, &event))
			die("epoll_ctl");
	}
	printf("%d\n", ntohs(here.sin_port));
	fflush(stdout);
	for (;;) {
		struct epoll_event ready[2];
		int count = epoll_wait(waiter, ready, 2, -1);
		for (int i = 0; i < count; i++) {
			if (ready[i].data.fd == STDIN_FILENO) {
				char line[64];
				if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
					return 0;
				printf("%lu %ld %lu\n", packets, now_ns(CLOCK_PROCESS_CPUTIME_ID),
				       sum + last_time + last_drops);
				fflush(stdout);
				continue;
			}
			while (take_all(fd, batch) > 0)
				nanosleep(&quiet, NULL);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 8 && !strcmp(argv[1], "send")) {
		pin(atoi(argv[7]));
		return send_all(argv[2], atoi(argv[3]), atoi(argv[4]), atof(argv[5]), atol(argv[6]));
	}
	if (argc == 5 && !strcmp(argv[1], "receive") && atoi(argv[3]) > 0 && atoi(argv[3]) <= MAX_BATCH) {
		pin(atoi(argv[4]));
		return receive(argv[2], atoi(argv[3]));
	}
	fprintf(stderr, "udp send ADDRESS PORT BYTES RATE COUNT CPU | udp receive ADDRESS BATCH CPU\n");
	return 2;
}
