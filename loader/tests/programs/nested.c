/* Counts in maps that it finds in others: one of an array, one of a hash. */
#include "bpf.h"

#ifndef VALUE
#define VALUE __u64
#endif
#ifndef SIZE
#define SIZE 4
#endif
#ifndef KIND
#define KIND BPF_MAP_TYPE_PERCPU_ARRAY
#endif
#ifndef PATTERN_SIZE
#define PATTERN_SIZE SIZE
#endif
#ifndef OUTER
#define OUTER BPF_MAP_TYPE_ARRAY_OF_MAPS
#endif

#define DEFINITION(kind, entries)                                                                                  \
	{                                                                                                          \
		__uint(type, kind);                                                                                \
		__uint(max_entries, entries);                                                                      \
		__type(key, __u32);                                                                                \
		__type(value, VALUE);                                                                              \
	}

struct counters DEFINITION(KIND, SIZE);
struct counters counters_a SEC(".maps"), counters_b SEC(".maps");
#ifdef THIRD
struct counters counters_c SEC(".maps");
#endif
struct flows DEFINITION(BPF_MAP_TYPE_HASH, 16);
struct flows flows_a SEC(".maps"), flows_b SEC(".maps");
struct pattern DEFINITION(KIND, PATTERN_SIZE);

struct {
	__uint(type, OUTER);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct pattern);
} by_number SEC(".maps") = {
	.values = {
		[1] = (void *)&counters_a,
#ifdef THIRD
		[2] = (void *)&counters_c,
#endif
		[3] = (void *)&counters_b,
	},
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct flows);
} by_key SEC(".maps") = {
	.values = { [7] = &flows_a, [70] = &flows_b },
};

SEC("xdp")
int xdp_nested(struct xdp_md *ctx)
{
	__u32 number = 3, key = 70, zero = 0;
	VALUE *value, one = 1;
	void *inner;

	inner = map_lookup(&by_number, &number);
	value = inner ? map_lookup(inner, &zero) : 0;
	if (!value)
		return count(ctx, XDP_ABORTED);
	__sync_fetch_and_add(value, 1);
	inner = map_lookup(&by_key, &key);
	if (!inner)
		return count(ctx, XDP_ABORTED);
	value = map_lookup(inner, &zero);
	if (value)
		__sync_fetch_and_add(value, 1);
	else
		map_update(inner, &zero, &one, 0);
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
