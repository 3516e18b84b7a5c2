/* Programs for other hooks only. */
#include "bpf.h"

SEC("tc")
int classify(void *ctx)
{
	return 0;
}

SEC("xdp/devmap")
int behind_a_device_map(struct xdp_md *ctx)
{
	return count(ctx, XDP_PASS);
}

char _license[] SEC("license") = "GPL";
