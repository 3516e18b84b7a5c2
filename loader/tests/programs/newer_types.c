/* Kinds of types that older readers of BTF do not know: enum64, declaration tags and type tags. */
#include "bpf.h"

enum wide { SMALL = 1, LARGE = 0x100000000ULL };

#define tagged __attribute__((btf_decl_tag("counted")))
struct record {
	__u64 value tagged;
	__u64 __attribute__((btf_type_tag("user"))) *pointer;
	float ratio;
	enum wide wide;
} tagged;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct record);
} records SEC(".maps");

enum wide global_wide = LARGE;

SEC("xdp")
int xdp_newer_types(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct record *record = map_lookup(&records, &key);

	if (record && record->wide == global_wide)
		return XDP_ABORTED;
	return count(ctx, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
