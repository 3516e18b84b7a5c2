//! What a map of the kernel's holds, in the form in which contents are compared.

use xdpd_kernel::{Map, MapDef, ValueLayout};

use super::{BPF_MAP_TYPE_LPM_TRIE, Content, is_array, prefix};

/// Reads all entries of a map.
///
/// Of arrays those that are not zero. What lies between the values of two CPUs is zero here, and so are the bits behind
/// a prefix.
pub fn read(map: &Map) -> Result<Content, xdpd_kernel::Error> {
    let mut content = Content::new();
    map.for_each(|key, value| {
        if let Some((key, value)) = entry(map.def(), map.layout(), key, value) {
            content.insert(key, value);
        }
    })?;
    Ok(content)
}

fn entry(def: &MapDef, layout: ValueLayout, key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut value = value.to_vec();
    layout.clear_gaps(&mut value);
    if is_array(def.map_type) && value.iter().all(|byte| *byte == 0) {
        return None;
    }
    Some((canonical(def, key), value))
}

/// A key as it is told from others: of a prefix only the bits that count.
pub fn canonical(def: &MapDef, key: &[u8]) -> Vec<u8> {
    let masked = if def.map_type == BPF_MAP_TYPE_LPM_TRIE { prefix::masked(key) } else { None };
    masked.unwrap_or_else(|| key.to_vec())
}

/// What is under a key of a per-CPU map where each of `cpus` has the same value; of others, the value.
pub(super) fn spread(def: &MapDef, value: &[u8], cpus: usize) -> Vec<u8> {
    ValueLayout::new(def, cpus).repeated(value)
}

#[cfg(test)]
mod tests {
    use xdpd_kernel::map_types::{
        BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH,
    };

    use super::*;

    fn def(map_type: u32, value_size: u32) -> MapDef {
        MapDef { map_type, key_size: 8, value_size, max_entries: 8, flags: 0, map_extra: 0 }
    }

    #[test]
    fn what_does_not_count_is_no_difference() {
        let entry = |def: &MapDef, key: &[u8], value: &[u8]| entry(def, ValueLayout::new(def, 2), key, value);
        let key = [24, 0, 0, 0, 192, 0, 2, 255];
        let masked = vec![24, 0, 0, 0, 192, 0, 2, 0];
        assert_eq!(entry(&def(BPF_MAP_TYPE_LPM_TRIE, 1), &key, &[1]), Some((masked, vec![1])));
        let percpu = def(BPF_MAP_TYPE_PERCPU_HASH, 3);
        let found = entry(&percpu, &key, &[1, 2, 3, 9, 9, 9, 9, 9, 4, 5, 6, 9, 9, 9, 9, 9]).unwrap();
        assert_eq!(found.1, [1, 2, 3, 0, 0, 0, 0, 0, 4, 5, 6, 0, 0, 0, 0, 0]);
        assert_eq!(entry(&def(BPF_MAP_TYPE_ARRAY, 2), &key, &[0, 0]), None);
        assert!(entry(&def(BPF_MAP_TYPE_HASH, 2), &key, &[0, 0]).is_some());
    }

    #[test]
    fn of_a_prefix_only_the_bits_that_count_tell_it_from_others() {
        let key = |bits: u32, data: [u8; 4]| [bits.to_ne_bytes(), data].concat();
        let trie = |key: &[u8]| canonical(&def(BPF_MAP_TYPE_LPM_TRIE, 1), key);
        assert_eq!(trie(&key(12, [10, 0xff, 1, 2])), key(12, [10, 0xf0, 0, 0]));
        assert_eq!(trie(&key(0, [10, 1, 2, 3])), key(0, [0; 4]));
        // Longer than there are bits: the kernel has no such key.
        assert_eq!(trie(&key(33, [10, 1, 2, 3])), key(33, [10, 1, 2, 3]));
        let hash = def(BPF_MAP_TYPE_HASH, 1);
        assert_eq!(canonical(&hash, &key(0, [10, 1, 2, 3])), key(0, [10, 1, 2, 3]));
    }

    #[test]
    fn each_cpu_gets_the_value() {
        let percpu = def(BPF_MAP_TYPE_PERCPU_ARRAY, 3);
        assert_eq!(spread(&percpu, &[1, 2, 3], 2), [1, 2, 3, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0]);
        assert_eq!(spread(&def(BPF_MAP_TYPE_HASH, 3), &[1, 2, 3], 2), [1, 2, 3]);
    }
}
