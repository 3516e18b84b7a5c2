/* Needs nothing but its own instructions. */
#include <linux/bpf.h>

__attribute__((section("xdp"), used)) int xdp_no_maps(struct xdp_md *ctx)
{
	return ctx->ingress_ifindex ? XDP_PASS : XDP_DROP;
}
