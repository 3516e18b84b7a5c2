/* A map as libbpf had them before 1.0. */
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))

struct {
	unsigned int type, key_size, value_size, max_entries, map_flags;
} old SEC("maps") = { BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0 };

SEC("xdp")
int xdp_old_maps(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
