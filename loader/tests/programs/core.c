/* References to types of the running kernel. */
#include "bpf.h"

struct task_struct {
	int pid;
	int no_kernel_has_this;
} __attribute__((preserve_access_index));

__u64 offset_of_pid;

SEC("xdp")
int xdp_core(struct xdp_md *ctx)
{
	struct task_struct *task = 0;

	if (!__builtin_preserve_field_info(task->pid, 2) ||
	    __builtin_preserve_field_info(task->no_kernel_has_this, 2))
		return XDP_ABORTED;
	offset_of_pid = __builtin_preserve_field_info(task->pid, 0);
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
