/*
 * Lets in packets from networks of an allow list, and counts what it does.
 *
 *     clang -target bpf -O2 -g -I/usr/include/$(uname -m)-linux-gnu -c allow.c -o allow.o
 *     xdpd check allow.toml
 *
 * The list is in allow.toml. An edit of it is applied while the program runs, and no packet of a network that stays on
 * the list is dropped meanwhile:
 *
 *     xdpd diff allow.toml
 *     xdpd apply allow.toml
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

struct network {
	__u32 prefix_len; /* bits */
	__u32 address;    /* as in the packet */
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct network);
	__type(value, __u8);
} allowed SEC(".maps");

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
int xdp_allow(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct network source = { .prefix_len = 32 };

	if ((void *)(ip + 1) > end || eth->h_proto != __builtin_bswap16(ETH_P_IP))
		return counted(ctx, XDP_PASS); /* ARP and others */
	source.address = ip->saddr;
	return counted(ctx, bpf_map_lookup_elem(&allowed, &source) ? XDP_PASS : XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
