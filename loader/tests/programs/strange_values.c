/* A map that holds others, or programs, in ways that nothing can make so. */
#include "bpf.h"

#ifndef TYPE
#define TYPE BPF_MAP_TYPE_ARRAY_OF_MAPS
#endif
#ifndef INNER_TYPE
#define INNER_TYPE BPF_MAP_TYPE_ARRAY
#endif
#ifndef KEY
#define KEY __u32
#endif
#ifndef PATTERN
#define PATTERN struct inner
#endif
#ifndef MORE
#define MORE
#endif
#ifndef INNER_MORE
#define INNER_MORE
#endif
#ifndef SLOTS
#define SLOTS { [0] = (void *)&inner }
#endif

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} inner SEC(".maps");

struct other {
	__uint(type, INNER_TYPE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
	INNER_MORE
};
#ifndef BARE
struct other other SEC(".maps");
#endif

__u64 number = 1;
static int local(struct xdp_md *ctx);
int classifier(struct xdp_md *ctx);
int function(struct xdp_md *ctx);
extern int foreign(struct xdp_md *ctx);

struct {
	__uint(type, TYPE);
	__uint(max_entries, 2);
	__type(key, KEY);
	MORE
	__array(values, PATTERN);
} strange SEC(".maps") = { .values = SLOTS };

SEC("xdp")
static int local(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("tc")
int classifier(struct xdp_md *ctx)
{
	return 0;
}

__noinline int function(struct xdp_md *ctx)
{
	return XDP_PASS + (int)number;
}

SEC("xdp")
int xdp_strange_values(struct xdp_md *ctx)
{
	tail_call(ctx, &strange, 0);
	return count(ctx, XDP_DROP + 0 * function(ctx));
}

char _license[] SEC("license") = "GPL";
