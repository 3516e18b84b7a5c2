/* One program, one map: as in the tutorial. */
#include "bpf.h"

SEC("xdp")
int xdp_count(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
