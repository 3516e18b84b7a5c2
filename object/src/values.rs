//! What maps hold whose values are no bytes: other maps, or programs.

use std::collections::BTreeMap;

use xdpd_types::MapDef;
use xdpd_types::map_types::{BPF_F_INNER_MAP, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_XSKMAP};

use super::{FieldKind, MapLayout, MapOrigin, MapSpec};

/// What the values of a map are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Values {
    /// Bytes.
    #[default]
    Bytes,
    /// Maps that are like one pattern.
    Maps {
        /// The pattern.
        inner: Box<Inner>,
        /// Those of the object that it holds from the start.
        slots: Slots,
    },
    /// Programs: the functions of the object that it holds from the start.
    Programs(Slots),
}

/// Names by the number that is their key.
pub type Slots = BTreeMap<u32, String>;

/// The pattern of the maps that a map of maps holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// Type, sizes and flags.
    pub def: MapDef,
    /// BTF type ids of key and value in the object's BTF.
    pub btf: Option<(u32, u32)>,
    /// Layout of key and value, where BTF tells it.
    pub layout: Option<MapLayout>,
    /// The memory node, see [`MapSpec::numa_node`].
    pub numa_node: u32,
}

impl MapSpec {
    /// A map of which no more is known than its definition.
    pub fn plain(def: MapDef, origin: MapOrigin) -> Self {
        Self { def, btf: None, layout: None, origin, values: Values::Bytes, numa_node: 0 }
    }

    /// What it holds from the start, where it holds maps or programs; empty where it holds bytes.
    pub fn slots(&self) -> &Slots {
        static NONE: Slots = Slots::new();
        match &self.values {
            Values::Bytes => &NONE,
            Values::Maps { slots, .. } | Values::Programs(slots) => slots,
        }
    }

    /// Of a map of maps: the pattern of those.
    pub fn inner(&self) -> Option<&Inner> {
        match &self.values {
            Values::Maps { inner, .. } => Some(inner),
            Values::Bytes | Values::Programs(_) => None,
        }
    }

    /// Of a program array: the functions that it holds from the start, if there are any.
    pub fn programs(&self) -> Option<&Slots> {
        match &self.values {
            Values::Programs(slots) if !slots.is_empty() => Some(slots),
            _ => None,
        }
    }
}

/// How a map differs from the pattern of a map of maps, by what the kernel compares (`bpf_map_meta_equal` and its like in
/// kernel/bpf): empty where the one can hold the other.
pub fn differences(pattern: &MapDef, map: &MapDef) -> Vec<String> {
    let is_sized = match pattern.map_type {
        BPF_MAP_TYPE_ARRAY => pattern.flags & BPF_F_INNER_MAP == 0,
        map_type => map_type == BPF_MAP_TYPE_XSKMAP,
    };
    let max_entries = if is_sized { map.max_entries } else { pattern.max_entries };
    pattern.differences(&MapDef { max_entries, map_extra: pattern.map_extra, ..*map })
}

/// Whether what the kernel keeps in the values, locks and timers, is at the same places.
pub(super) fn have_the_same_kernel_fields(one: Option<&MapLayout>, other: Option<&MapLayout>) -> bool {
    let places = |layout: Option<&MapLayout>| -> Vec<(u32, u32)> {
        let fields = layout.into_iter().flat_map(|layout| &layout.value.0);
        fields.filter(|field| field.kind == FieldKind::Kernel).map(|f| (f.offset, f.size)).collect()
    };
    places(one) == places(other)
}

#[cfg(test)]
mod tests {
    use xdpd_types::map_types::BPF_MAP_TYPE_HASH;

    use super::*;

    const ARRAY: MapDef = MapDef {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 5,
        flags: 0,
        map_extra: 0,
    };

    #[test]
    fn the_size_of_an_array_counts_unless_its_pattern_says_otherwise() {
        let larger = MapDef { max_entries: 6, ..ARRAY };
        assert_eq!(differences(&ARRAY, &larger), ["max entries 5 -> 6"]);
        let any = MapDef { flags: BPF_F_INNER_MAP, ..ARRAY };
        assert_eq!(differences(&any, &MapDef { flags: BPF_F_INNER_MAP, ..larger }), Vec::<String>::new());
        let hash = MapDef { map_type: BPF_MAP_TYPE_HASH, ..ARRAY };
        assert_eq!(differences(&hash, &MapDef { max_entries: 6, ..hash }), Vec::<String>::new());
    }

    #[test]
    fn all_else_that_the_kernel_compares_is_told() {
        let other = MapDef { map_type: BPF_MAP_TYPE_HASH, key_size: 8, value_size: 4, flags: 1, ..ARRAY };
        assert_eq!(
            differences(&ARRAY, &other),
            ["type array -> hash", "key size 4 -> 8", "value size 8 -> 4", "flags 0x0 -> 0x1"]
        );
    }
}
