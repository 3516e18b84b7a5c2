/*
 * Lets in packets for open ports only. One program for each protocol, one list of ports for each transport.
 *
 *     clang -target bpf -O2 -g -I/usr/include/$(uname -m)-linux-gnu -c services.c -o services.o
 *     xdpd check services.toml
 *
 * Both tables are filled by this object: `handlers` holds programs, which `xdpd` loads along with the first one, and
 * `open_ports` holds maps, whose entries are in services.toml.
 *
 * Only the kernel's own headers are needed; with libbpf's <bpf/bpf_helpers.h> the first lines go.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
#define __array(name, value) typeof(value) *name[]
static void *(*const bpf_map_lookup_elem)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_tail_call)(void *ctx, const void *map, __u32 index) = (void *)BPF_FUNC_tail_call;

struct ports {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16); /* as people write them */
	__type(value, __u8);
} tcp_ports SEC(".maps"), udp_ports SEC(".maps");

enum transport { TCP, UDP };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct ports);
} open_ports SEC(".maps") = {
	.values = { [TCP] = &tcp_ports, [UDP] = &udp_ports },
};

int xdp_ipv4(struct xdp_md *ctx);
int xdp_ipv6(struct xdp_md *ctx);

enum handler { IPV4, IPV6 };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, int(struct xdp_md *));
} handlers SEC(".maps") = {
	.values = { [IPV4] = &xdp_ipv4, [IPV6] = &xdp_ipv6 },
};

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

static inline int counted(struct xdp_md *ctx, __u32 action)
{
	struct datarec *record = bpf_map_lookup_elem(&xdp_stats_map, &action);

	if (!record)
		return XDP_ABORTED;
	record->rx_packets += 1;
	record->rx_bytes += ctx->data_end - ctx->data;
	return action;
}

/* TCP and UDP begin with two ports alike. */
static inline int is_open(struct xdp_md *ctx, void *transport_header, __u8 protocol)
{
	void *end = (void *)(long)ctx->data_end;
	__be16 *ports = transport_header;
	__u32 transport = protocol == IPPROTO_TCP ? TCP : UDP;
	void *open;
	__u16 port;

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 1; /* ICMP and others */
	if ((void *)(ports + 2) > end)
		return 0;
	port = __builtin_bswap16(ports[1]);
	open = bpf_map_lookup_elem(&open_ports, &transport);
	return open && bpf_map_lookup_elem(open, &port);
}

SEC("xdp")
int xdp_ipv4(struct xdp_md *ctx)
{
	struct iphdr *ip = (void *)((struct ethhdr *)(long)ctx->data + 1);

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end || ip->ihl != 5)
		return counted(ctx, XDP_DROP);
	return counted(ctx, is_open(ctx, ip + 1, ip->protocol) ? XDP_PASS : XDP_DROP);
}

SEC("xdp")
int xdp_ipv6(struct xdp_md *ctx)
{
	struct ipv6hdr *ip = (void *)((struct ethhdr *)(long)ctx->data + 1);

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return counted(ctx, XDP_DROP);
	return counted(ctx, is_open(ctx, ip + 1, ip->nexthdr) ? XDP_PASS : XDP_DROP);
}

SEC("xdp")
int xdp_services(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return counted(ctx, XDP_DROP);
	if (eth->h_proto == __builtin_bswap16(ETH_P_IP))
		bpf_tail_call(ctx, &handlers, IPV4);
	else if (eth->h_proto == __builtin_bswap16(ETH_P_IPV6))
		bpf_tail_call(ctx, &handlers, IPV6);
	else
		return counted(ctx, XDP_PASS); /* ARP and others */
	return counted(ctx, XDP_ABORTED); /* the jump has missed */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
