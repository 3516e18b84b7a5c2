/* Counts by device in maps that others put into a map of maps; nobody has yet. */
#include "bpf.h"

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	struct inner *values[];
} outer SEC(".maps");

SEC("xdp")
int xdp_map_of_maps(struct xdp_md *ctx)
{
	__u32 key = 0;

	return count(ctx, map_lookup(&outer, &key) ? XDP_PASS : XDP_DROP);
}

char _license[] SEC("license") = "GPL";
