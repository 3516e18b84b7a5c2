/* A section name that libbpf took before 1.0. */
#include "bpf.h"

SEC("xdp/ingress")
int xdp_old_name(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
