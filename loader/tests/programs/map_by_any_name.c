/* A map whose name in the object is what the compiler is told: -DNAME='"..."'. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} map __asm__(NAME) SEC(".maps");

SEC("xdp")
int xdp_named(struct xdp_md *ctx)
{
	__u32 key = 0;

	return map_lookup(&map, &key) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
