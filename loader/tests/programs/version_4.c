/* For -mcpu=v4: a division with signs. */
#include "bpf.h"

SEC("xdp")
int xdp_version_4(struct xdp_md *ctx)
{
	int length = ctx->data_end - ctx->data;
	volatile int divisor = -60;

	return count(ctx, length / divisor < 0 ? XDP_DROP : XDP_PASS);
}

char _license[] SEC("license") = "GPL";
