/* Global variables in an object that follows redbpf's conventions. */
#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))

static void *(*const map_lookup)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;

struct {
	__u32 type, key_size, value_size, max_entries, map_flags;
} xdp_stats_map SEC("maps/xdp_stats_map") = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, 16, 5, 0 };

const volatile __u32 action = XDP_PASS;
__u64 seen = 1;
__u64 step = 1;

SEC("xdp/settings")
int settings(struct xdp_md *ctx)
{
	__u32 key = action;
	__u64 *record = map_lookup(&xdp_stats_map, &key);

	if (!record)
		return XDP_ABORTED;
	record[0] += 1;
	__sync_fetch_and_add(&seen, step);
	return key;
}

char _license[] SEC("license") = "GPL";
__u32 _version SEC("version") = 0xfffffffe;
