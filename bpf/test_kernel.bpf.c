/* What test/kernel exercises the loader with: one of each kind of map, and programs that use them. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 test_verdict = XDP_PASS;
const volatile __u64 test_wide = 0;
const volatile __s16 test_short = 0;
const volatile __u8 test_mac[6] = {};

enum test_state { TEST_ON = 1, TEST_ODD = -2 };
const volatile enum test_state test_state = TEST_ON;

struct test_inner {
	__u8 small;
	__u32 words[3];
};

struct test_layout {
	__u64 wide;
	struct test_inner inner[2];
	union {
		__u32 one;
		__u16 other;
	};
	__u32 low : 5, high : 27;
	__s16 negative;
} __attribute__((aligned(8)));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct test_layout);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} per_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

static void count(__u32 index)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter)
		__sync_fetch_and_add(counter, 1);
}

SEC("xdp.frags")
int test_xdp(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u32 *mine = bpf_map_lookup_elem(&per_cpu, &zero);

	if (mine)
		(*mine)++;
	count(0);
	bpf_tail_call(ctx, &next, 0);
	return test_verdict;
}

SEC("tc")
int test_tc(struct __sk_buff *skb)
{
	count(1);
	return -1; /* TCX_NEXT, TC_ACT_UNSPEC */
}

struct test_args {
	__u64 first;
	__u64 sum; /* out */
	__u32 events;
	__u32 discarded;
};

/* Adds the constants to `first` and writes so many records of growing length, every `discarded`-th thrown away. */
SEC("syscall")
int test_syscall(struct test_args *args)
{
	args->sum = args->first + test_wide + test_mac[5] + test_short;
	for (__u32 i = 0; i < args->events && i < 1024; i++) {
		__u32 *record = bpf_ringbuf_reserve(&events, 12, 0);

		if (!record)
			return -11;
		record[0] = i;
		record[1] = ~i;
		record[2] = 0;
		if (args->discarded && i % args->discarded == 0)
			bpf_ringbuf_discard(record, 0);
		else
			bpf_ringbuf_submit(record, 0);
	}
	return args->events > 1024 ? -7 : (int)args->events;
}
