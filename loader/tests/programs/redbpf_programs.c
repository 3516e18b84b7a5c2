/* redbpf's conventions: programs that load, and some that refer to what redbpf cannot resolve. */
#include "redbpf.h"

__u32 zero;
__u64 limit = 3;

static __noinline int not_inlined(struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data > 1000;
}

SEC("xdp/sound")
int sound(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

SEC("xdp/with_data")
int with_data(struct xdp_md *ctx)
{
	return count(ctx, *(volatile __u64 *)&limit == 3 ? XDP_DROP : XDP_PASS);
}

SEC("xdp/with_bss")
int with_bss(struct xdp_md *ctx)
{
	return count(ctx, *(volatile __u32 *)&zero ? XDP_PASS : XDP_DROP);
}

SEC("xdp/with_call")
int with_call(struct xdp_md *ctx)
{
	return count(ctx, not_inlined(ctx) ? XDP_PASS : XDP_DROP);
}

SEC("xdp/rejected")
int rejected(struct xdp_md *ctx)
{
	return *(volatile __u8 *)(long)ctx->data;
}

char _license[] SEC("license") = "GPL";
