/* A section with a name of its own and one without. */
#include "bpf.h"

SEC("xdp/named")
int xdp_named(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

SEC("xdp")
int xdp_plain(struct xdp_md *ctx)
{
	return count(ctx, XDP_PASS);
}

char _license[] SEC("license") = "GPL";
