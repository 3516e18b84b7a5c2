/* A global variable that holds the address of another one. */
#include "bpf.h"

__u32 one = 1;
__u32 *where = &one;

SEC("xdp")
int xdp_addresses(struct xdp_md *ctx)
{
	return count(ctx, where ? XDP_DROP : XDP_PASS);
}

char _license[] SEC("license") = "GPL";
