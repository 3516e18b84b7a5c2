/* What the programs of these tests share: libbpf's conventions in a few lines, and counting per XDP action. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
#define __array(name, value) typeof(value) *name[]
#define __noinline __attribute__((noinline))

static void *(*const map_lookup)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const map_update)(const void *map, const void *key, const void *value,
				__u64 flags) = (void *)BPF_FUNC_map_update_elem;
static long (*const trace_printk)(const char *format, __u32 size, ...) = (void *)BPF_FUNC_trace_printk;
static long (*const redirect_map)(const void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;
static long (*const tail_call)(void *ctx, const void *map, __u32 index) = (void *)BPF_FUNC_tail_call;
static long (*const ringbuf_output)(const void *map, const void *data, __u64 size,
				    __u64 flags) = (void *)BPF_FUNC_ringbuf_output;
static long (*const loop)(__u32 count, void *callback, void *context, __u64 flags) = (void *)BPF_FUNC_loop;

#ifndef STATS_ENTRIES
#define STATS_ENTRIES 5
#endif

struct datarec {
	__u64 rx_packets;
	__u64 rx_bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct datarec);
	__uint(max_entries, STATS_ENTRIES);
} xdp_stats_map SEC(".maps");

static inline __attribute__((always_inline)) int count(struct xdp_md *ctx, __u32 action)
{
	struct datarec *record = map_lookup(&xdp_stats_map, &action);

	if (!record)
		return XDP_ABORTED;
	record->rx_packets += 1;
	record->rx_bytes += ctx->data_end - ctx->data;
	return action;
}
