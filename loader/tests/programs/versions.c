/* Versions of one program: the definition of its map, and what it does with an entry for each packet, are given by macros. */
#include "bpf.h"

#ifndef TYPE
#define TYPE BPF_MAP_TYPE_PERCPU_HASH
#endif
#ifndef KEY
#define KEY __u32
#endif
#ifndef KEY_OF_PACKETS
#define KEY_OF_PACKETS 1
#endif
#ifndef FIELDS
#define FIELDS __u64 packets;
#endif
#ifndef ENTRIES
#define ENTRIES 16
#endif
#ifndef FLAGS
#define FLAGS 0
#endif
#ifndef COUNT
#define COUNT entry->packets += 1
#endif
#ifndef MORE
#define MORE
#endif

struct value {
	FIELDS
};

typedef KEY key_of_state;

struct {
	__uint(type, TYPE);
	__uint(max_entries, ENTRIES);
	__uint(map_flags, FLAGS);
#if defined(NO_ENTRIES)
#elif defined(NO_TYPES)
	__uint(key_size, sizeof(key_of_state));
	__uint(value_size, sizeof(struct value));
#else
	__type(key, key_of_state);
	__type(value, struct value);
#endif
} state SEC(".maps");

MORE

SEC("xdp")
int xdp_version(struct xdp_md *ctx)
{
	__u32 action = XDP_DROP;

#ifndef NO_ENTRIES
	key_of_state key = {KEY_OF_PACKETS};
	struct value *entry = map_lookup(&state, &key);

	if (entry) {
		COUNT;
	}
#endif
	return count(ctx, action);
}

char _license[] SEC("license") = "GPL";
