/*
 * lacking SYSCALL ARGUMENT ERRNO COMMAND…: runs a command on a kernel that answers ERRNO to a system call (by its number)
 * whose first argument is ARGUMENT, or to all of its calls (-), as one without that feature does.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (skip))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, (value))

static int install(struct sock_filter *code, unsigned short length)
{
	struct sock_fprog program = { .len = length, .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	unsigned call = strtoul(argv[1], NULL, 0), argument = strtoul(argv[2], NULL, 0);
	unsigned answer = SECCOMP_RET_ERRNO | strtoul(argv[3], NULL, 0);
	struct sock_filter every[] = { LOAD(nr), UNLESS(call, 1), ANSWER(answer), ANSWER(SECCOMP_RET_ALLOW) };
	struct sock_filter one[] = { LOAD(nr),		 UNLESS(call, 3), LOAD(args[0]),
				     UNLESS(argument, 1), ANSWER(answer),  ANSWER(SECCOMP_RET_ALLOW) };

	if (strcmp(argv[2], "-") == 0 ? install(every, 4) : install(one, 6)) {
		perror("seccomp");
		return 1;
	}
	execvp(argv[4], argv + 4);
	perror(argv[4]);
	return 127;
}
