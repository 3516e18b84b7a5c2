/* A map of each type whose content a file can say, and some of which it cannot. All of them belong to the program. */
#include "bpf.h"

struct flow {
	__be32 source;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

struct limits {
	__u32 rate;
	__u32 burst;
};

enum verdict { ALLOW, DENY = 7 };

struct network {
	__u32 prefix_len;
	__u8 address[4];
};

#define MAP(map_name, map_type, flags, key_type, value_type) \
	struct {                                              \
		__uint(type, map_type);                       \
		__uint(max_entries, 8);                       \
		__uint(map_flags, flags);                     \
		__type(key, key_type);                        \
		__type(value, value_type);                    \
	} map_name SEC(".maps")

MAP(flows, BPF_MAP_TYPE_HASH, 0, struct flow, enum verdict);
MAP(hosts, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, __u32, struct limits);
MAP(counts, BPF_MAP_TYPE_PERCPU_HASH, 0, __u16, __u32);
MAP(settings, BPF_MAP_TYPE_ARRAY, 0, __u32, struct limits);
MAP(slots, BPF_MAP_TYPE_PERCPU_ARRAY, 0, __u32, __u32);
MAP(networks, BPF_MAP_TYPE_LPM_TRIE, BPF_F_NO_PREALLOC, struct network, __u8);
MAP(recent, BPF_MAP_TYPE_LRU_HASH, 0, __u32, __u32);
MAP(unwritable, BPF_MAP_TYPE_HASH, BPF_F_RDONLY, __u32, __u32);

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 8);
	__uint(key_size, 4);
	__uint(value_size, 4);
} ports SEC(".maps");

/* Nothing tells the types of its key and value. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__uint(key_size, 6);
	__uint(value_size, 2);
} untyped SEC(".maps");

__u32 limit = 3;

SEC("xdp")
int xdp_contents(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct flow flow = {};
	struct network network = {};
	__u64 mac = 0;

	map_lookup(&flows, &flow);
	map_lookup(&hosts, &zero);
	map_lookup(&counts, &zero);
	map_lookup(&settings, &zero);
	map_lookup(&slots, &zero);
	map_lookup(&networks, &network);
	map_lookup(&untyped, &mac);
	return count(ctx, limit ? XDP_DROP : XDP_PASS);
}

char LICENSE[] SEC("license") = "GPL";
