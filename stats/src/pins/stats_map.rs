//! The stats map: its layout, and reading it.

use xdpd_kernel::clock::monotonic_ns;
use xdpd_kernel::map_types::{BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY};
use xdpd_kernel::{Map, MapDef};

use crate::delta::Reading;
use crate::record::{ACTIONS, Counter};

/// What a stats map looks like, in words.
pub(super) const SHAPE: &str = "percpu_array or array with 4-byte keys, 16-byte values, at least 5 entries";

/// Whether a map has the layout of the XDP tutorial's stats map: for each action packets and bytes, per CPU or not.
pub(super) fn is_stats_map(def: &MapDef) -> bool {
    let is_array = matches!(def.map_type, BPF_MAP_TYPE_ARRAY | BPF_MAP_TYPE_PERCPU_ARRAY);
    is_array && def.key_size == 4 && def.value_size == 16 && def.max_entries as usize >= ACTIONS.len()
}

/// Buffers for reading stats maps, used again for each of them.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    keys: [u8; 4 * ACTIONS.len()],
    values: Vec<u8>,
    position: [u8; 4],
}

impl Buffers {
    /// Reads a map with one system call into `reading`, whose memory is used again.
    pub(crate) fn read(&mut self, map: &Map, reading: &mut Reading) -> Result<(), String> {
        let layout = map.layout();
        self.values.resize(ACTIONS.len().saturating_mul(layout.len()), 0);
        let found = map.lookup_batch(&mut self.keys, &mut self.values, &mut self.position);
        reading.at = monotonic_ns();
        reading.map = map.id();
        match found {
            Ok(found) if found == ACTIONS.len() => {}
            Ok(found) => return Err(format!("map {}: {found} of {} entries", map.id(), ACTIONS.len())),
            Err(error) => return Err(error.to_string()),
        }
        reading.slots.clear();
        reading.slots.extend(layout.values(&self.values).map(counter));
        Ok(())
    }
}

/// `struct { __u64 rx_packets; __u64 rx_bytes; }`.
fn counter(value: &[u8]) -> Counter {
    let number = |at: usize| {
        let bytes = value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    };
    Counter { packets: number(0), bytes: number(8) }
}

#[cfg(test)]
mod tests {
    use xdpd_kernel::map_types::BPF_MAP_TYPE_HASH;

    use super::*;

    #[test]
    fn only_the_tutorial_s_layout_is_a_stats_map() {
        let def = |map_type, key_size, value_size, max_entries| MapDef {
            map_type,
            key_size,
            value_size,
            max_entries,
            ..MapDef::default()
        };
        assert!(is_stats_map(&def(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 16, 5)));
        assert!(is_stats_map(&def(BPF_MAP_TYPE_ARRAY, 4, 16, 8)));
        assert!(!is_stats_map(&def(BPF_MAP_TYPE_HASH, 4, 16, 5)));
        assert!(!is_stats_map(&def(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 5)));
        assert!(!is_stats_map(&def(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 16, 4)));
    }

    #[test]
    fn a_counter_is_two_numbers() {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&7_u64.to_ne_bytes());
        value[8..].copy_from_slice(&448_u64.to_ne_bytes());
        assert_eq!(counter(&value), Counter { packets: 7, bytes: 448 });
    }
}
