/* A variable whose value does not fit a record. */
#include "bpf.h"

const volatile __u32 limit = 1;
char text[4001];

SEC("xdp")
int xdp_long(struct xdp_md *ctx)
{
	return count(ctx, text[0] && limit ? XDP_PASS : XDP_DROP);
}

char _license[] SEC("license") = "GPL";
