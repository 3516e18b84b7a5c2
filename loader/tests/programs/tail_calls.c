/* Tail calls through a program array, which others fill. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 4);
} next SEC(".maps");

#ifndef PROGRAM
#define PROGRAM "xdp"
#endif

SEC(PROGRAM)
int xdp_tail_calls(struct xdp_md *ctx)
{
	tail_call(ctx, &next, 0);
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
