/* Two programs in one section; the kernel could not tell them apart by 15 characters. */
#include "bpf.h"

SEC("xdp")
int xdp_function_that_passes(struct xdp_md *ctx)
{
	return count(ctx, XDP_PASS);
}

SEC("xdp")
int xdp_function_that_drops(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
