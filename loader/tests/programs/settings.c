/* Global variables that the file sets, of each kind and of many types. */
#include "bpf.h"

enum verdict { PASS_ALL = 1, DROP_ALL = 2 };
struct window {
	__u16 from;
	__u32 to;
};
union both {
	__u32 number;
	__u8 bytes[4];
};

/* Constants: limit is how many packets pass. */
const volatile __u32 limit = 1000000;
const volatile char wanted[8] = "nobody";
const volatile _Bool strict = 1;
const volatile enum verdict verdict = PASS_ALL;
const volatile __be16 port = 0;
const volatile __u8 bytes[5] = {};
const __u32 folded = 5;

/* Variables: slot is which of the counters counts, a name that is wanted is aborted. */
__u32 slot = 1;
char name[8] = "none";
__u64 own = 7; /* which the program changes itself */
__u8 small = 1;

__u64 counters[4];
__u64 extra;
__s16 balance;
struct window window;
union both both;
void *pointer;

static int wanted_name(void)
{
	for (int i = 0; i < 8; i++) {
		if (name[i] != wanted[i])
			return 0;
	}
	return 1;
}

SEC("xdp")
int xdp_settings(struct xdp_md *ctx)
{
	__u64 n = __sync_fetch_and_add(&counters[0], 1);

	__sync_fetch_and_add(&counters[slot & 3], 1 + extra);
	own += 1;
	if (n >= limit || verdict == DROP_ALL)
		return count(ctx, XDP_DROP);
	return count(ctx, strict && wanted_name() ? XDP_ABORTED : XDP_PASS);
}

char _license[] SEC("license") = "GPL";
