/* Maps in the manner of redbpf-probes and in that of libbpf. */
#include "bpf.h"

struct {
	__u32 type, key_size, value_size, max_entries, flags;
} other SEC("maps/other") = { BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0 };

SEC("xdp")
int xdp_mixed(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
