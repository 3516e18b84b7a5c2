//! Types and flags of maps: `enum bpf_map_type` and the flags of `BPF_MAP_CREATE`, `include/uapi/linux/bpf.h`.

/// A hash.
pub const BPF_MAP_TYPE_HASH: u32 = 1;
/// An array.
pub const BPF_MAP_TYPE_ARRAY: u32 = 2;
/// Programs to call by their index.
pub const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
/// Perf events by the index of a CPU.
pub const BPF_MAP_TYPE_PERF_EVENT_ARRAY: u32 = 4;
/// A hash with a value for each CPU.
pub const BPF_MAP_TYPE_PERCPU_HASH: u32 = 5;
/// An array with a value for each CPU.
pub const BPF_MAP_TYPE_PERCPU_ARRAY: u32 = 6;
/// Stacks of calls.
pub const BPF_MAP_TYPE_STACK_TRACE: u32 = 7;
/// A hash that evicts the entry that was not used for longest.
pub const BPF_MAP_TYPE_LRU_HASH: u32 = 9;
/// The same, with a value for each CPU.
pub const BPF_MAP_TYPE_LRU_PERCPU_HASH: u32 = 10;
/// Longest prefix match.
pub const BPF_MAP_TYPE_LPM_TRIE: u32 = 11;
/// Maps by their index.
pub const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
/// Maps by a key.
pub const BPF_MAP_TYPE_HASH_OF_MAPS: u32 = 13;
/// Devices by their index.
pub const BPF_MAP_TYPE_DEVMAP: u32 = 14;
/// Sockets by their index.
pub const BPF_MAP_TYPE_SOCKMAP: u32 = 15;
/// CPUs by their index.
pub const BPF_MAP_TYPE_CPUMAP: u32 = 16;
/// `AF_XDP` sockets by the index of a queue.
pub const BPF_MAP_TYPE_XSKMAP: u32 = 17;
/// Sockets by a key.
pub const BPF_MAP_TYPE_SOCKHASH: u32 = 18;
/// Storage of a cgroup, with a value for each CPU.
pub const BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: u32 = 21;
/// First in, first out.
pub const BPF_MAP_TYPE_QUEUE: u32 = 22;
/// Last in, first out.
pub const BPF_MAP_TYPE_STACK: u32 = 23;
/// Devices by a key.
pub const BPF_MAP_TYPE_DEVMAP_HASH: u32 = 25;
/// A buffer that programs write and user space reads.
pub const BPF_MAP_TYPE_RINGBUF: u32 = 27;
/// A filter that tells whether something may have been put into it.
pub const BPF_MAP_TYPE_BLOOM_FILTER: u32 = 30;

/// Entries are allocated when they are made.
pub const BPF_F_NO_PREALLOC: u32 = 1;
/// A list of entries for each CPU.
pub const BPF_F_NO_COMMON_LRU: u32 = 1 << 1;
/// It lies in the memory of the node that is named beside.
pub const BPF_F_NUMA_NODE: u32 = 1 << 2;
/// User space may only read, through this descriptor.
pub const BPF_F_RDONLY: u32 = 1 << 3;
/// User space may only write, through this descriptor.
pub const BPF_F_WRONLY: u32 = 1 << 4;
/// Programs may only read.
pub const BPF_F_RDONLY_PROG: u32 = 1 << 7;
/// Programs may only write.
pub const BPF_F_WRONLY_PROG: u32 = 1 << 8;
/// User space may map the content into its memory, and so write one variable while programs write others.
pub const BPF_F_MMAPABLE: u32 = 1 << 10;
/// Of an array that is the pattern of inner maps: they may have any number of entries.
pub const BPF_F_INNER_MAP: u32 = 1 << 12;
