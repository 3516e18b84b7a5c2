/* A licence that is not the GPL, and a helper that asks for it. */
#include "bpf.h"

SEC("xdp")
int xdp_closed_license(struct xdp_md *ctx)
{
	char format[] = "packet";

	trace_printk(format, sizeof(format));
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "Proprietary";
