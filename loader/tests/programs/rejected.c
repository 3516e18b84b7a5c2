/* Reads the packet without a look at its end. */
#include "bpf.h"

SEC("xdp")
int xdp_rejected(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;

	count(ctx, XDP_PASS);
	return data[13]; /* here */
}

char _license[] SEC("license") = "GPL";
