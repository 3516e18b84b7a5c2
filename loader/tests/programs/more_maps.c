/* Maps of the types that maps.c leaves out. */
#include "bpf.h"

#define MAP(name, map_type, entries, key, value)                                                   \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, entries);                                                      \
		__uint(key_size, key);                                                             \
		__uint(value_size, value);                                                         \
	} name SEC(".maps")

MAP(array, BPF_MAP_TYPE_ARRAY, 4, 4, 8);
MAP(percpu_hash, BPF_MAP_TYPE_PERCPU_HASH, 4, 4, 8);
MAP(lru_percpu_hash, BPF_MAP_TYPE_LRU_PERCPU_HASH, 64, 4, 8);
MAP(stack_trace, BPF_MAP_TYPE_STACK_TRACE, 4, 4, 80);
MAP(devmap, BPF_MAP_TYPE_DEVMAP, 4, 4, 4);
MAP(sockmap, BPF_MAP_TYPE_SOCKMAP, 4, 4, 8);
MAP(sockhash, BPF_MAP_TYPE_SOCKHASH, 4, 4, 8);
MAP(stack, BPF_MAP_TYPE_STACK, 4, 0, 8);

SEC("xdp")
int xdp_more_maps(struct xdp_md *ctx)
{
	__u32 key = 1;
	__u64 value = 2;

	if (map_update(&array, &key, &value, 0) || map_update(&percpu_hash, &key, &value, 0) ||
	    map_update(&lru_percpu_hash, &key, &value, 0) ||
	    redirect_map(&devmap, 3, XDP_DROP) != XDP_DROP)
		return XDP_ABORTED;
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
