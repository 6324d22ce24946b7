/* A program that the verifier must refuse: test/kernel checks what becomes of its answer. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("xdp")
int test_fine(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* Reads a packet without a look at where it ends. */
SEC("xdp")
int test_refused(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;

	return data[13];
}
