/* A variable that the kernel's configuration would fill. */
#include "bpf.h"

extern int LINUX_KERNEL_VERSION __attribute__((section(".kconfig")));

SEC("xdp")
int xdp_externs(struct xdp_md *ctx)
{
	return count(ctx, LINUX_KERNEL_VERSION > 0 ? XDP_PASS : XDP_DROP);
}

char _license[] SEC("license") = "GPL";
