/* Two programs, of which the verifier takes one. */
#include "bpf.h"

SEC("xdp")
int xdp_broken(struct xdp_md *ctx)
{
	return *(volatile __u8 *)(long)ctx->data;
}

SEC("xdp")
int xdp_sound(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
