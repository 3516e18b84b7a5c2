/* No licence, and no helper that asks for one. */
#include "bpf.h"

SEC("xdp")
int xdp_free(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}
