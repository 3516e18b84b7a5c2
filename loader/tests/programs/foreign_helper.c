/* A helper for other hooks. */
#include "bpf.h"

static long (*const skb_vlan_pop)(void *ctx) = (void *)BPF_FUNC_skb_vlan_pop;

SEC("xdp")
int xdp_foreign_helper(struct xdp_md *ctx)
{
	skb_vlan_pop(ctx);
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
