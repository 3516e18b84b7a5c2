//! Where values are in what the kernel copies, and of which maps that is known.

use std::ops::Range;

use crate::map::{MapDef, map_type_name};
#[allow(clippy::wildcard_imports, reason = "the kernel's names are prefixed already")]
use crate::map_types::*;

/// Where the values under one key are in what the kernel copies: one value, or in per-CPU maps a value for each possible
/// CPU, in the order of the ascending numbers of the possible CPUs.
///
/// From `bpf_map_value_size` in `kernel/bpf/syscall.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueLayout {
    count: usize,
    size: usize,
    stride: usize,
}

impl ValueLayout {
    /// The layout for a map with this definition, on a machine with so many possible CPUs.
    pub fn new(def: &MapDef, cpus: usize) -> Self {
        let size = def.value_size as usize;
        if def.is_per_cpu() {
            Self { count: cpus, size, stride: size.div_ceil(8).saturating_mul(8) }
        } else {
            Self { count: 1, size, stride: size }
        }
    }

    /// The layout where `len` bytes are all that is under one key.
    pub fn of_len(def: &MapDef, len: usize) -> Self {
        let layout = Self::new(def, 0);
        Self { count: len / layout.stride.max(1), ..layout }
    }

    /// The number of values under one key: the number of possible CPUs, or 1. 0 where it is not known, and no entry of the
    /// map can be read or written.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The distance of two values in bytes: values of CPUs begin at multiples of 8.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The length of all values under one key, in bytes.
    pub fn len(&self) -> usize {
        // Where it saturates no buffer is that long, so that the kernel is never called.
        self.count.saturating_mul(self.stride)
    }

    /// Whether there are no values at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values in the bytes of one or more keys, each [`stride`](Self::stride) bytes long: of CPUs with the gap behind it.
    pub fn values<'v>(&self, bytes: &'v [u8]) -> impl ExactSizeIterator<Item = &'v [u8]> + Clone + use<'v> {
        bytes.chunks_exact(self.stride.max(1))
    }

    /// The values without the gaps.
    pub fn bare_values<'v>(&self, bytes: &'v [u8]) -> impl Iterator<Item = &'v [u8]> + Clone + use<'v> {
        let size = self.size;
        self.values(bytes).filter_map(move |value| value.get(..size))
    }

    /// As [`values`](Self::values), to be written to.
    pub fn values_mut<'v>(
        &self,
        bytes: &'v mut [u8],
    ) -> impl ExactSizeIterator<Item = &'v mut [u8]> + use<'v> {
        bytes.chunks_exact_mut(self.stride.max(1))
    }

    /// Where the value number `n` is in the bytes of a key.
    pub fn range(&self, n: usize) -> Range<usize> {
        n * self.stride..(n + 1) * self.stride
    }

    /// The bytes of a key under which all values are the same; `value` is one without a gap.
    pub fn repeated(&self, value: &[u8]) -> Vec<u8> {
        let mut slot = value.to_vec();
        slot.resize(self.stride, 0);
        slot.repeat(self.count)
    }

    /// Fills the gaps between the values of CPUs with zeros: what the kernel leaves there has no meaning.
    pub fn clear_gaps(&self, bytes: &mut [u8]) {
        let size = self.size;
        self.values_mut(bytes).filter_map(|value| value.get_mut(size..)).for_each(|gap| gap.fill(0));
    }
}

/// Why no entry of a map of this type may be read or written; `None` where it is known how many bytes the kernel copies.
///
/// It copies `key_size` bytes of a key, and of a value as many as [`ValueLayout`] has: 4 for maps of descriptors, of which
/// no other `value_size` is taken when they are made (`fd_array_map_alloc_check` in `kernel/bpf/arraymap.c`). From
/// `kernel/bpf/` of Linux 6.1 to 6.18.
pub fn refusal(map_type: u32) -> Option<String> {
    match map_type {
        BPF_MAP_TYPE_HASH
        | BPF_MAP_TYPE_ARRAY
        | BPF_MAP_TYPE_PROG_ARRAY
        | BPF_MAP_TYPE_PERCPU_HASH
        | BPF_MAP_TYPE_PERCPU_ARRAY
        | BPF_MAP_TYPE_STACK_TRACE
        | BPF_MAP_TYPE_LRU_HASH
        | BPF_MAP_TYPE_LRU_PERCPU_HASH
        | BPF_MAP_TYPE_LPM_TRIE
        | BPF_MAP_TYPE_ARRAY_OF_MAPS
        | BPF_MAP_TYPE_HASH_OF_MAPS
        | BPF_MAP_TYPE_DEVMAP
        | BPF_MAP_TYPE_DEVMAP_HASH
        | BPF_MAP_TYPE_CPUMAP
        | BPF_MAP_TYPE_XSKMAP
        | BPF_MAP_TYPE_SOCKMAP
        | BPF_MAP_TYPE_SOCKHASH
        // Without keys: what is put in, and taken out, is a value.
        | BPF_MAP_TYPE_QUEUE
        | BPF_MAP_TYPE_STACK
        | BPF_MAP_TYPE_BLOOM_FILTER => None,
        // Of the others that are known, some have no entries (ring buffers, arenas), some take the number of a descriptor
        // for a key (storage of tasks and sockets), and some copy what the kernel was built with (struct_ops).
        other => Some(match map_type_name(other) {
            "unknown" => format!("the size of its entries is not known: its type, {other}, is newer than this program"),
            name => format!("its entries are neither read nor written here: its type is {name}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(map_type: u32, value_size: u32) -> MapDef {
        MapDef { map_type, value_size, ..MapDef::default() }
    }

    #[test]
    fn values_of_cpus_begin_at_multiples_of_eight_bytes() {
        for map_type in [BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_LRU_PERCPU_HASH] {
            let layout = ValueLayout::new(&def(map_type, 12), 3);
            assert_eq!((layout.count(), layout.stride(), layout.len()), (3, 16, 48));
            assert_eq!(layout.range(2), 32..48);
        }
        let layout = ValueLayout::new(&def(BPF_MAP_TYPE_ARRAY, 12), 3);
        assert_eq!((layout.count(), layout.stride(), layout.len()), (1, 12, 12));
    }

    #[test]
    fn no_size_wraps() {
        let layout = ValueLayout::new(&def(BPF_MAP_TYPE_PERCPU_ARRAY, u32::MAX), usize::MAX);
        assert_eq!(layout.len(), usize::MAX);
        let nothing = ValueLayout::new(&def(BPF_MAP_TYPE_RINGBUF, 0), 2);
        assert!(nothing.is_empty());
        assert_eq!(nothing.values(&[]).len(), 0);
    }

    #[test]
    fn the_bytes_of_a_key_are_the_values_of_the_cpus_side_by_side() {
        let layout = ValueLayout::new(&def(BPF_MAP_TYPE_PERCPU_HASH, 3), 2);
        let mut bytes = layout.repeated(&[1, 2, 3]);
        assert_eq!(bytes, [1, 2, 3, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0]);
        layout.values_mut(&mut bytes).for_each(|value| value[7] = 9);
        assert!(layout.values(&bytes).all(|value| value == [1, 2, 3, 0, 0, 0, 0, 9]));
        layout.clear_gaps(&mut bytes);
        assert_eq!(bytes, layout.repeated(&[1, 2, 3]));
        assert!(layout.bare_values(&bytes).eq([&[1, 2, 3], &[1, 2, 3]]));
        assert_eq!(ValueLayout::of_len(&def(BPF_MAP_TYPE_PERCPU_HASH, 3), bytes.len()), layout);
        let plain = ValueLayout::new(&def(BPF_MAP_TYPE_HASH, 3), 2);
        assert_eq!(plain.repeated(&[1, 2, 3]), [1, 2, 3]);
    }

    #[test]
    fn types_without_entries_and_types_that_are_not_known_are_refused() {
        let refused: Vec<u32> = (0..40).filter(|map_type| refusal(*map_type).is_some()).collect();
        assert_eq!(refused, [0, 4, 8, 19, 20, 21, 24, 26, 27, 28, 29, 31, 32, 33, 34, 35, 36, 37, 38, 39]);
        assert_eq!(
            refusal(27).unwrap(),
            "its entries are neither read nor written here: its type is ringbuf"
        );
        assert_eq!(
            refusal(34).unwrap(),
            "the size of its entries is not known: its type, 34, is newer than this program"
        );
    }
}
