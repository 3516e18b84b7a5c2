/* A helper for programs under the GPL, and no licence. */
#include "bpf.h"

SEC("xdp")
int xdp_no_license(struct xdp_md *ctx)
{
	char format[] = "packet";

	trace_printk(format, sizeof(format));
	return count(ctx, XDP_DROP);
}
