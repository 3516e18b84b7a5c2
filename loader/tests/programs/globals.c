/* Global variables, with and without a value. */
#include "bpf.h"

__u64 budget = 3;
__u64 seen;

SEC("xdp")
int xdp_globals(struct xdp_md *ctx)
{
	__u64 n = __sync_fetch_and_add(&seen, 1);

	return count(ctx, n < budget ? XDP_PASS : XDP_DROP);
}

char _license[] SEC("license") = "GPL";
