/* Functions of its own: a global one, static ones that call each other, and a callback. */
#include "bpf.h"

static __noinline int decide(struct xdp_md *ctx, __u32 action)
{
	return count(ctx, action);
}

static __noinline int forward(struct xdp_md *ctx, __u32 action)
{
	return decide(ctx, action) + 0;
}

__noinline int global(struct xdp_md *ctx)
{
	return forward(ctx, XDP_DROP);
}

static long add(__u32 index, __u32 *sum)
{
	*sum += index;
	return 0;
}

SEC("xdp")
int xdp_calls(struct xdp_md *ctx)
{
	__u32 sum = 0;

	loop(4, add, &sum, 0);
	return sum == 6 ? global(ctx) : XDP_ABORTED;
}

char _license[] SEC("license") = "GPL";
