/* Global variables in several sections, whose names begin with the same 15 characters, by redbpf's conventions. */
#include "redbpf.h"

__u64 first SEC(".data.of_packets.first") = 1;
__u64 pad SEC(".data.of_packets.second") = 7;
__u64 second SEC(".data.of_packets.second") = 10;
__u64 third = 100;

SEC("xdp/sections")
int sections(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&first, 1);
	__sync_fetch_and_add(&second, 10);
	__sync_fetch_and_add(&third, 100);
	return count(ctx, *(volatile __u64 *)&pad == 7 ? XDP_DROP : XDP_PASS);
}

char _license[] SEC("license") = "GPL";
__u32 _version SEC("version") = 0xfffffffe;
