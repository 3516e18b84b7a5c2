/* A program with a map of each kind that an apply treats in its own way: counts, entries of its own, a list, and variables. */
#include "bpf.h"

#ifndef FIELDS
#define FIELDS __u64 packets;
#endif
#ifndef MORE
#define MORE
#endif

struct flow {
	FIELDS
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u32);
} listed SEC(".maps");

__u32 slot = 1;
MORE
__u64 counters[4];

/* What is not on the list is aborted. */
static inline __attribute__((always_inline)) int take(struct xdp_md *ctx, __u32 action)
{
	__u32 key = 1;
	struct flow *flow = map_lookup(&flows, &key);

	if (flow)
		flow->packets += 1;
	__sync_fetch_and_add(&counters[slot & 3], 1);
	return count(ctx, map_lookup(&listed, &key) ? action : XDP_ABORTED);
}

SEC("xdp")
int xdp_drops(struct xdp_md *ctx)
{
	return take(ctx, XDP_DROP);
}

SEC("xdp")
int xdp_passes(struct xdp_md *ctx)
{
	return take(ctx, XDP_PASS);
}

char _license[] SEC("license") = "GPL";
