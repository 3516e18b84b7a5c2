/* Takes packets of several buffers. */
#include "bpf.h"

SEC("xdp.frags")
int xdp_frags(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
