/* 65 maps, and the one that counts. */
#include "bpf.h"

#define MAP(name)                                                                                  \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(max_entries, 1);                                                            \
		__uint(key_size, 4);                                                               \
		__uint(value_size, 4);                                                             \
	} name SEC(".maps");
#define MAPS(n) MAP(a##n) MAP(b##n) MAP(c##n) MAP(d##n) MAP(e##n)

MAPS(0) MAPS(1) MAPS(2) MAPS(3) MAPS(4) MAPS(5) MAPS(6) MAPS(7) MAPS(8) MAPS(9) MAPS(10) MAPS(11) MAPS(12)

SEC("xdp")
int xdp_too_many_maps(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
