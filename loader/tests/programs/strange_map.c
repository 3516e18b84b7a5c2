/* A map of a type that no kernel has, or with a member that means nothing. */
#include "bpf.h"

struct {
#ifdef MEMBER
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(colour, 3);
#else
	__uint(type, 200);
#endif
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} strange SEC(".maps");

SEC("xdp")
int xdp_strange_map(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
