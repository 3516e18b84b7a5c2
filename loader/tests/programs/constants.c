/* Loads only if the verifier knows the value of the constant: what it rules out is forbidden. */
#include "bpf.h"

const volatile __u32 debug = 0;
const volatile __u32 action = XDP_DROP;

SEC("xdp")
int xdp_constants(struct xdp_md *ctx)
{
	if (debug)
		return *(volatile __u8 *)(long)ctx->data;
	return count(ctx, action);
}

char _license[] SEC("license") = "GPL";
