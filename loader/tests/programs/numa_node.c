/* A map on a memory node. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__uint(map_flags, BPF_F_NUMA_NODE);
	__uint(numa_node, 0);
	__type(key, __u32);
	__type(value, __u64);
} placed SEC(".maps");

SEC("xdp")
int xdp_numa_node(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 one = 1;

	map_update(&placed, &key, &one, 0);
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
