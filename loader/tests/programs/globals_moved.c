/* As globals.c, with sections of the same size that hold other variables. */
#include "bpf.h"

__u64 limit = 3;
__u64 seen;

SEC("xdp")
int xdp_globals(struct xdp_md *ctx)
{
	__u64 n = __sync_fetch_and_add(&seen, 1);

	return count(ctx, n < limit ? XDP_PASS : XDP_DROP);
}

char _license[] SEC("license") = "GPL";
