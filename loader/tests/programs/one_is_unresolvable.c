/* Programs that refer to what nothing here can resolve, beside one that does not. */
#include "bpf.h"

extern int LINUX_KERNEL_VERSION __attribute__((section(".kconfig")));
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp)
	__attribute__((section(".ksyms")));

static long add(__u32 index, __u32 *sum)
{
	*sum += index;
	return 0;
}

SEC("xdp")
int xdp_of_this_version(struct xdp_md *ctx)
{
	return count(ctx, LINUX_KERNEL_VERSION > 0 ? XDP_PASS : XDP_DROP);
}

SEC("xdp")
int xdp_sound(struct xdp_md *ctx)
{
	__u32 sum = 0;

	loop(4, add, &sum, 0); /* loads only with BTF */
	return count(ctx, sum == 6 ? XDP_DROP : XDP_ABORTED);
}

SEC("xdp")
int xdp_with_timestamp(struct xdp_md *ctx)
{
	__u64 timestamp = 0;

	bpf_xdp_metadata_rx_timestamp(ctx, &timestamp);
	return count(ctx, timestamp ? XDP_PASS : XDP_DROP);
}

char _license[] SEC("license") = "GPL";
