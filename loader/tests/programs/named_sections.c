/* Sections with names of their own, as libbpf took them before 1.0; all refer to types of the kernel. */
#include "bpf.h"

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

static __noinline int has_pid(void)
{
	struct task_struct *task = 0;

	return __builtin_preserve_field_info(task->pid, 2);
}

SEC("xdp/named")
int xdp_named(struct xdp_md *ctx)
{
	struct task_struct *task = 0;

	return count(ctx, has_pid() && __builtin_preserve_field_info(task->pid, 2) ? XDP_DROP : XDP_ABORTED);
}

SEC("xdp.frags/named")
int xdp_named_frags(struct xdp_md *ctx)
{
	struct task_struct *task = 0;

	return count(ctx, has_pid() && __builtin_preserve_field_info(task->pid, 2) ? XDP_PASS : XDP_ABORTED);
}

SEC("xdp/broken")
int xdp_named_broken(struct xdp_md *ctx)
{
	struct task_struct *task = (void *)(long)ctx->data;

	return task->pid;
}

char _license[] SEC("license") = "GPL";
