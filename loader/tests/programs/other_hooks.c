/* An XDP program among programs for hooks that aya does not know, with references to types of the kernel. */
#include "bpf.h"

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

SEC("tcx/ingress")
int classify(struct task_struct *task)
{
	return __builtin_preserve_field_info(task->pid, 0);
}

SEC("xdp")
int xdp_among_others(struct xdp_md *ctx)
{
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
