//! What maps hold where the file says it: from the entries of the file to the bytes of a map, and the way from what a
//! map holds to that.

mod content;
mod declared;
mod edits;
mod lists;
mod notation;
mod plain;
mod prefix;

use xdpd_kernel::map_types::{
    BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_PERCPU_ARRAY,
    BPF_MAP_TYPE_PERCPU_HASH,
};

pub use content::{canonical, read};
pub use declared::Declared;
pub use edits::{Content, Edit, Tally, edits, entry_count, grouped, reversed};
pub use lists::{Lists, Problems};
pub use notation::{Notation, Text};

/// Whether maps of this type keep the entries that user space gives them.
pub fn holds_entries(map_type: u32) -> bool {
    const TYPES: [u32; 5] = [
        BPF_MAP_TYPE_HASH,
        BPF_MAP_TYPE_ARRAY,
        BPF_MAP_TYPE_PERCPU_HASH,
        BPF_MAP_TYPE_PERCPU_ARRAY,
        BPF_MAP_TYPE_LPM_TRIE,
    ];
    TYPES.contains(&map_type)
}

/// Whether maps of this type have all their keys from the beginning. Of them, entries that are zero count as none.
pub fn is_array(map_type: u32) -> bool {
    [BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY].contains(&map_type)
}
