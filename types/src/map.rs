//! What maps are.

use std::fmt;

use crate::id::{BtfId, MapId};
use crate::map_types::{
    BPF_MAP_TYPE_LRU_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
    BPF_MAP_TYPE_PERCPU_HASH,
};

/// The definition of a map: what decides whether two maps are interchangeable. Sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MapDef {
    /// `enum bpf_map_type`; see [`map_type_name`].
    pub map_type: u32,
    /// The size of a key; 0 for maps without keys.
    pub key_size: u32,
    /// The size of a value, for per-CPU maps of one CPU's value.
    pub value_size: u32,
    /// The number of entries that the map has room for.
    pub max_entries: u32,
    /// `BPF_F_*` flags. The kernel may add some of its own when it makes the map.
    pub flags: u32,
    /// What some types want beside: for a bloom filter the number of hash functions.
    pub map_extra: u64,
}

impl MapDef {
    /// Whether the map holds a value for each possible CPU under each key.
    pub fn is_per_cpu(&self) -> bool {
        matches!(
            self.map_type,
            BPF_MAP_TYPE_PERCPU_HASH
                | BPF_MAP_TYPE_PERCPU_ARRAY
                | BPF_MAP_TYPE_LRU_PERCPU_HASH
                | BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE
        )
    }

    /// How another definition differs from this one, in words such as `key size 4 -> 8`; empty where it does not.
    pub fn differences(&self, to: &Self) -> Vec<String> {
        let number = |what: &str, from: u64, to: u64| (from != to).then(|| format!("{what} {from} -> {to}"));
        let types = [self, to].map(|def| map_type_name(def.map_type));
        let found = [
            (self.map_type != to.map_type).then(|| format!("type {} -> {}", types[0], types[1])),
            number("key size", self.key_size.into(), to.key_size.into()),
            number("value size", self.value_size.into(), to.value_size.into()),
            number("max entries", self.max_entries.into(), to.max_entries.into()),
            (self.flags != to.flags).then(|| format!("flags {:#x} -> {:#x}", self.flags, to.flags)),
            number("map_extra", self.map_extra, to.map_extra),
        ];
        found.into_iter().flatten().collect()
    }
}

impl fmt::Display for MapDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match map_type_name(self.map_type) {
            "unknown" => write!(f, "type {}", self.map_type)?,
            name => f.write_str(name)?,
        }
        write!(
            f,
            " with {}-byte keys, {}-byte values, {} entries",
            self.key_size, self.value_size, self.max_entries
        )?;
        if self.flags != 0 {
            write!(f, ", flags {:#x}", self.flags)?;
        }
        if self.map_extra != 0 {
            write!(f, ", map_extra {:#x}", self.map_extra)?;
        }
        Ok(())
    }
}

/// The name of a map type as bpftool spells it, such as `percpu_array`; `unknown` for one that Linux 6.18 lacks.
pub fn map_type_name(map_type: u32) -> &'static str {
    // In the order of enum bpf_map_type.
    const NAMES: [&str; 34] = [
        "unspec",
        "hash",
        "array",
        "prog_array",
        "perf_event_array",
        "percpu_hash",
        "percpu_array",
        "stack_trace",
        "cgroup_array",
        "lru_hash",
        "lru_percpu_hash",
        "lpm_trie",
        "array_of_maps",
        "hash_of_maps",
        "devmap",
        "sockmap",
        "cpumap",
        "xskmap",
        "sockhash",
        "cgroup_storage",
        "reuseport_sockarray",
        "percpu_cgroup_storage",
        "queue",
        "stack",
        "sk_storage",
        "devmap_hash",
        "struct_ops",
        "ringbuf",
        "inode_storage",
        "task_storage",
        "bloom_filter",
        "user_ringbuf",
        "cgrp_storage",
        "arena",
    ];
    usize::try_from(map_type).ok().and_then(|index| NAMES.get(index)).copied().unwrap_or("unknown")
}

/// What the kernel knows about a map. None of it changes while the map lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapInfo {
    /// Its id.
    pub id: MapId,
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: String,
    /// Its definition, as the kernel normalised it.
    pub def: MapDef,
    /// The BTF object that describes key and value, if any.
    pub btf_id: Option<BtfId>,
    /// The type of the key in that BTF; 0 when it has none.
    pub btf_key_type_id: u32,
    /// The type of the value in that BTF; 0 when it has none.
    pub btf_value_type_id: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_types::BPF_MAP_TYPE_ARRAY;

    #[test]
    fn a_definition_reads_like_a_sentence() {
        let def = MapDef {
            map_type: BPF_MAP_TYPE_PERCPU_ARRAY,
            key_size: 4,
            value_size: 16,
            max_entries: 5,
            flags: 0,
            map_extra: 0,
        };
        assert_eq!(def.to_string(), "percpu_array with 4-byte keys, 16-byte values, 5 entries");
        let def = MapDef { map_type: 999, flags: 0x80, map_extra: 3, ..def };
        assert_eq!(
            def.to_string(),
            "type 999 with 4-byte keys, 16-byte values, 5 entries, flags 0x80, map_extra 0x3"
        );
    }

    #[test]
    fn map_types_are_named_as_bpftool_does() {
        assert_eq!(map_type_name(BPF_MAP_TYPE_ARRAY), "array");
        assert_eq!(map_type_name(BPF_MAP_TYPE_PERCPU_ARRAY), "percpu_array");
        assert_eq!(map_type_name(BPF_MAP_TYPE_LRU_PERCPU_HASH), "lru_percpu_hash");
        assert_eq!(map_type_name(31), "user_ringbuf");
        assert_eq!(map_type_name(1000), "unknown");
    }
}
