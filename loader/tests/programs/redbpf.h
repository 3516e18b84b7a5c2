/* What redbpf-probes leave in an object, in C. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __noinline __attribute__((noinline))

static void *(*const map_lookup)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;

struct datarec {
	__u64 rx_packets;
	__u64 rx_bytes;
};

struct {
	__u32 type, key_size, value_size, max_entries, flags;
} stats SEC("maps/xdp_stats_map") = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct datarec), 5, 0 };

static inline __attribute__((always_inline)) int count(struct xdp_md *ctx, __u32 action)
{
	struct datarec *record = map_lookup(&stats, &action);

	if (!record)
		return XDP_ABORTED;
	record->rx_packets += 1;
	record->rx_bytes += ctx->data_end - ctx->data;
	return action;
}
