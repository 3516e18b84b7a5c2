/*
 * Counts packets by protocol, in two versions of which the second counts more.
 *
 *     clang -target bpf -O2 -g -I/usr/include/$(uname -m)-linux-gnu -DVERSION=1 -c flows.c -o flows.o
 *     xdpd apply flows.toml
 *     clang -target bpf -O2 -g -I/usr/include/$(uname -m)-linux-gnu -DVERSION=2 -c flows.c -o flows.o
 *     xdpd diff flows.toml
 *     xdpd apply flows.toml
 *
 * What the first has counted goes on in the map of the second: see docs/migrate.md.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
static void *(*const bpf_map_lookup_elem)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_map_update_elem)(const void *map, const void *key, const void *value,
					 __u64 flags) = (void *)BPF_FUNC_map_update_elem;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;

struct flow {
#if VERSION == 1
	__u32 packets;
	__u64 last_seen; /* nanoseconds since boot */
#else
	__u64 last_seen;
	__u64 packets;
	__u64 bytes;
#endif
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, VERSION == 1 ? 256 : 1024);
	__type(key, __u32); /* EtherType */
	__type(value, struct flow);
} flows SEC(".maps");

SEC("xdp")
int xdp_flows(struct xdp_md *ctx)
{
	struct ethhdr *header = (void *)(long)ctx->data;
	struct flow none = {};
	struct flow *flow;
	__u32 protocol;

	if ((void *)(header + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	protocol = __builtin_bswap16(header->h_proto);
	flow = bpf_map_lookup_elem(&flows, &protocol);
	if (!flow) {
		bpf_map_update_elem(&flows, &protocol, &none, BPF_NOEXIST);
		flow = bpf_map_lookup_elem(&flows, &protocol);
		if (!flow)
			return XDP_PASS;
	}
	flow->packets += 1;
	flow->last_seen = bpf_ktime_get_ns();
#if VERSION != 1
	flow->bytes += ctx->data_end - ctx->data;
#endif
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
