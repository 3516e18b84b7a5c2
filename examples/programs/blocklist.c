/*
 * Drops packets from networks of a block list, except for some hosts, and counts what it does.
 *
 *     clang -target bpf -O2 -g -I/usr/include/$(uname -m)-linux-gnu -c blocklist.c -o blocklist.o
 *     xdpd check ../configs/blocklist.toml
 *
 * What the maps hold is in the file and in a list beside it: see ../configs/blocklist.toml.
 *
 * Only the kernel's own headers are needed; with libbpf's <bpf/bpf_helpers.h> the first lines go.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
static void *(*const bpf_map_lookup_elem)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;

struct network4 {
	__u32 prefix_len; /* bits */
	__be32 address;
};

struct network6 {
	__u32 prefix_len; /* bits */
	struct in6_addr address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct network4);
	__type(value, __u8);
} blocked4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct network6);
	__type(value, __u8);
} blocked6 SEC(".maps");

/* Hosts that are let in all the same. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, __u8);
} exempt SEC(".maps");

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

SEC("xdp")
int xdp_blocklist(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	struct network4 source4 = { .prefix_len = 32 };
	struct network6 source6 = { .prefix_len = 128 };

	if ((void *)(ip + 1) <= end && eth->h_proto == __builtin_bswap16(ETH_P_IP)) {
		source4.address = ip->saddr;
		if (bpf_map_lookup_elem(&blocked4, &source4) && !bpf_map_lookup_elem(&exempt, &source4.address))
			return counted(ctx, XDP_DROP);
	} else if ((void *)(ip6 + 1) <= end && eth->h_proto == __builtin_bswap16(ETH_P_IPV6)) {
		source6.address = ip6->saddr;
		if (bpf_map_lookup_elem(&blocked6, &source6))
			return counted(ctx, XDP_DROP);
	}
	return counted(ctx, XDP_PASS);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
