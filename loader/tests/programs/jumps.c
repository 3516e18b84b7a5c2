/* Jumps from program to program, through an array that the object fills. */
#include "bpf.h"

#ifndef PROGRAM
#define PROGRAM "xdp"
#endif
#ifndef SECOND
#define SECOND PROGRAM
#endif
#ifndef SLOTS
#define SLOTS { [0] = &xdp_first, [2] = &xdp_second }
#endif

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} only_second SEC(".maps");

int xdp_first(struct xdp_md *ctx);
int xdp_second(struct xdp_md *ctx);
int xdp_jumps(struct xdp_md *ctx);
int xdp_unused(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, 4);
	__array(values, int(struct xdp_md *));
} next SEC(".maps") = { .values = SLOTS };

/* Others fill this one. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} more SEC(".maps");

SEC(PROGRAM)
int xdp_first(struct xdp_md *ctx)
{
	tail_call(ctx, &next, 2);
	return count(ctx, XDP_ABORTED);
}

SEC(SECOND)
int xdp_second(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 one = 1;
#ifdef BROKEN
	return *(volatile __u8 *)(long)ctx->data;
#endif

	map_update(&only_second, &key, &one, 0);
	tail_call(ctx, &more, 0);
	return count(ctx, XDP_DROP);
}

SEC(PROGRAM)
int xdp_jumps(struct xdp_md *ctx)
{
	tail_call(ctx, &next, 0);
	return count(ctx, XDP_ABORTED);
}

/* No slot refers to it, and nothing verifies it. */
SEC(PROGRAM)
int xdp_unused(struct xdp_md *ctx)
{
	return *(volatile __u8 *)(long)ctx->data;
}

char _license[] SEC("license") = "GPL";
