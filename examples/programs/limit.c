/*
 * Lets in so many packets per window of time and drops the rest, and counts what it does.
 *
 *     clang -target bpf -O2 -g -I/usr/include/$(uname -m)-linux-gnu -c limit.c -o limit.o
 *     xdpd check ../configs/globals.toml
 *
 * How many, how long a window is, and who is exempt are global variables, which the file sets: see
 * ../configs/globals.toml.
 *
 * Only the kernel's own headers are needed; with libbpf's <bpf/bpf_helpers.h> the first lines go.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
static void *(*const bpf_map_lookup_elem)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;

/* Constants are part of the program: what they rule out costs nothing. `volatile` keeps the compiler from using the values
 * that are here. */
const volatile _Bool enabled = 1;
const volatile __u64 window = 1000000000; /* nanoseconds */
const volatile __be32 exempt[4] = {};

/* A variable, with those that the program itself changes: they go on when the file changes this one. */
__u64 limit = 1000; /* packets per window */
__u64 window_start;
__u64 let_in;

/* What xdp-stats reads. */
struct datarec {
	__u64 rx_packets;
	__u64 rx_bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 5);
	__type(key, __u32);
	__type(value, struct datarec);
} xdp_stats_map SEC(".maps");

static int counted(struct xdp_md *ctx, __u32 action)
{
	struct datarec *record = bpf_map_lookup_elem(&xdp_stats_map, &action);

	if (!record)
		return XDP_ABORTED;
	record->rx_packets += 1;
	record->rx_bytes += ctx->data_end - ctx->data;
	return action;
}

static int is_exempt(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != __builtin_bswap16(ETH_P_IP) || !ip->saddr)
		return 0;
	for (int i = 0; i < 4; i++) {
		if (ip->saddr == exempt[i])
			return 1;
	}
	return 0;
}

SEC("xdp")
int xdp_limit(struct xdp_md *ctx)
{
	__u64 now = bpf_ktime_get_ns();

	if (!enabled || is_exempt(ctx))
		return counted(ctx, XDP_PASS);
	/* CPUs may start a window at once; then it is one window all the same. */
	if (now - window_start > window) {
		window_start = now;
		let_in = 0;
	}
	return counted(ctx, __sync_fetch_and_add(&let_in, 1) < limit ? XDP_PASS : XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
