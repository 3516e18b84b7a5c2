/* A helper that is forbidden to a program without a licence, where the verifier never looks. */
#include "bpf.h"

const volatile __u32 debug = 0;

SEC("xdp")
int xdp_unreachable_helper(struct xdp_md *ctx)
{
	char format[] = "packet";

	if (debug)
		trace_printk(format, sizeof(format));
	return count(ctx, XDP_DROP);
}
