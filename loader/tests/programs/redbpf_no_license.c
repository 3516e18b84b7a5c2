/* redbpf's conventions, without a license. */
#include "redbpf.h"

SEC("xdp/no_license")
int no_license(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}
