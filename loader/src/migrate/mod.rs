//! Carrying the entries of a map to one of another definition: whether that can be done, and how each field goes.
//!
//! Pure: definitions and layouts in, a [`Mapping`] or a reason out. A mapping converts values ([`values`]), and becomes
//! the instructions that settle what two programs changed while the entries were on their way ([`program`]).
//!
//! Three maps take part in it: the old one, the new one, and the *base*, a snapshot of the old one as it was copied.
//! What the old program has counted since is `old - base`, what the new one has counted is `new - base`. Settling adds
//! the first to the new map, or, when the change is taken back, the second to the old map, and brings the base up to it
//! in the same moment. So it can be done again after any interruption: what is settled already differs by nothing.

mod fields;
pub mod program;
pub mod values;

use std::collections::BTreeMap;

use xdpd_config::Merge;
use xdpd_kernel::map::{MapDef, map_type_name};
use xdpd_kernel::map_types::{
    BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH,
    BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY,
    BPF_MAP_TYPE_PERCPU_HASH,
};

use crate::object::{Layout, MapLayout};
pub use fields::check_rule;
use program::{Descriptors, Direction};

/// Values above this size would take more instructions to settle than one jump can skip.
const VALUE_MAX: u32 = 16 << 10;
/// Programs have their keys on the stack.
const KEY_MAX: u32 = 512;

/// How the entries of a map are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// By any key; an entry may be there or not.
    Hash,
    /// By a number; each entry is there.
    Array,
    /// By the longest prefix.
    Trie,
}

/// The family of a type of map; `None` for one whose content is no entries that could be carried.
pub fn family(map_type: u32) -> Option<Family> {
    Some(match map_type {
        BPF_MAP_TYPE_HASH
        | BPF_MAP_TYPE_LRU_HASH
        | BPF_MAP_TYPE_PERCPU_HASH
        | BPF_MAP_TYPE_LRU_PERCPU_HASH => Family::Hash,
        BPF_MAP_TYPE_ARRAY | BPF_MAP_TYPE_PERCPU_ARRAY => Family::Array,
        BPF_MAP_TYPE_LPM_TRIE => Family::Trie,
        _ => return None,
    })
}

/// Whether programs may not write to it.
pub fn is_read_only(def: &MapDef) -> bool {
    def.flags & BPF_F_RDONLY_PROG != 0
}

/// One of the two maps.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its definition.
    pub def: &'a MapDef,
    /// The layout of its keys and values, where type information tells it.
    pub layout: Option<&'a MapLayout>,
}

/// What the file says of carrying the entries of a map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// What becomes of fields that both programs change, by path.
    pub merge: BTreeMap<String, Merge>,
    /// Entries and parts of values that have no room in the new map may be lost.
    pub lossy: bool,
}

/// How values go from one map to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The fields that are in both.
    pub parts: Vec<Part>,
    /// What people should know about the others, in words.
    pub notes: Vec<String>,
}

/// A field that is in both values, or several that are carried as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it is in the old value, in bytes.
    pub from: usize,
    /// Where it is in the new one.
    pub to: usize,
    /// What it is.
    pub shape: Shape,
    /// What becomes of it when both programs change it.
    pub merge: Merge,
}

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Whole numbers in a row.
    Numbers {
        /// Bytes of each in the old value: 1, 2, 4 or 8.
        from: usize,
        /// Bytes of each in the new one.
        to: usize,
        /// Those of the old value may be negative.
        signed: bool,
        /// How many.
        count: usize,
    },
    /// So many bytes that are one thing.
    Bytes(usize),
}

impl Mapping {
    /// How the entries of `old` become those of `new`; otherwise why they cannot, in words that follow "and".
    pub fn between(old: Side<'_>, new: Side<'_>, settings: &Settings) -> Result<Self, String> {
        let (from, to) = (old.def, new.def);
        let (Some(from_family), Some(to_family)) = (family(from.map_type), family(to.map_type)) else {
            let map_type = if family(from.map_type).is_none() { from.map_type } else { to.map_type };
            return Err(format!(
                "maps of type {} have no entries that could be carried over",
                map_type_name(map_type)
            ));
        };
        let types = || format!("{} to a {}", map_type_name(from.map_type), map_type_name(to.map_type));
        if from.is_per_cpu() != to.is_per_cpu() {
            return Err(format!(
                "entries cannot be carried over from a {}: only one of the two has a value for each CPU",
                types()
            ));
        }
        if from_family != to_family {
            return Err(format!(
                "entries cannot be carried over from a {}: their keys mean different things",
                types()
            ));
        }
        if from.key_size != to.key_size {
            return Err(format!("the key has {} bytes instead of {}", to.key_size, from.key_size));
        }
        if let (Some(old), Some(new)) = (old.layout, new.layout)
            && !same_keys(&old.key, &new.key)
        {
            return Err("the fields of the key differ".into());
        }
        if (from.flags | to.flags) & BPF_F_WRONLY_PROG != 0 {
            return Err("programs may not read the map".into());
        }
        let size = from.value_size.max(to.value_size);
        if size > VALUE_MAX {
            return Err(format!("its values have {size} bytes, and at most {VALUE_MAX} can be carried over"));
        }
        if from.key_size > KEY_MAX {
            return Err(format!(
                "its keys have {} bytes, and at most {KEY_MAX} can be looked up",
                from.key_size
            ));
        }
        let mapping = match (old.layout, new.layout) {
            (Some(old), Some(new)) => fields::between(&old.value, &new.value, settings),
            (_, _) if from.value_size != to.value_size => Err(format!(
                "its values have {} bytes instead of {}, and without type information (BTF) on both sides nothing tells \
                 which is which",
                to.value_size, from.value_size
            )),
            _ if !settings.merge.is_empty() => {
                Err("`merge` needs type information (BTF) on both sides, and one has none".into())
            }
            _ => Ok(Self::whole(from.value_size)),
        }?;
        let nowhere = Descriptors { old: -1, base: -1, new: -1 };
        let settles = |direction| {
            program::instructions(&mapping, direction, from.key_size, from.is_per_cpu(), nowhere).is_some()
        };
        if settles(Direction::Forward) && settles(Direction::Back) {
            Ok(mapping)
        } else {
            Err("its values are too large, and their fields too far from where they were".into())
        }
    }

    /// Values of which nothing is known but their size.
    fn whole(size: u32) -> Self {
        let part = Part { from: 0, to: 0, shape: Shape::Bytes(size as usize), merge: Merge::New };
        let note = "values are carried as a whole, for there is no type information: where both programs change one, \
                    that of the new program stays";
        Self { parts: vec![part], notes: vec![note.to_owned()] }
    }

    /// The fields in which counts are added up.
    pub fn sums(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.merge == Merge::Sum)
    }
}

/// The definition of the base for an old map: it holds whatever the old map held when it was copied, and what appeared in
/// either map since. It evicts nothing.
pub fn base_definition(old: &MapDef, new: &MapDef) -> MapDef {
    let map_type = match (family(old.map_type), old.is_per_cpu()) {
        (Some(Family::Array), _) => old.map_type,
        (_, true) => BPF_MAP_TYPE_PERCPU_HASH,
        (_, false) => BPF_MAP_TYPE_HASH,
    };
    let is_array = map_type == old.map_type && family(map_type) == Some(Family::Array);
    MapDef {
        map_type,
        key_size: old.key_size,
        value_size: old.value_size,
        max_entries: if is_array { old.max_entries } else { old.max_entries.saturating_add(new.max_entries) },
        flags: if is_array { 0 } else { BPF_F_NO_PREALLOC },
        map_extra: 0,
    }
}

/// Whether an array of this size has room for an entry. Of other maps that is known only when it is full.
pub fn fits(def: &MapDef, key: &[u8]) -> bool {
    match (family(def.map_type), <[u8; 4]>::try_from(key)) {
        (Some(Family::Array), Ok(index)) => u32::from_ne_bytes(index) < def.max_entries,
        _ => true,
    }
}

/// The kind of a field makes no difference to where an entry is found.
fn same_keys(old: &Layout, new: &Layout) -> bool {
    let place = |layout: &Layout| -> Vec<_> {
        layout.0.iter().map(|field| (field.path.clone(), field.offset, field.size)).collect()
    };
    place(old) == place(new)
}

#[cfg(test)]
mod tests;
