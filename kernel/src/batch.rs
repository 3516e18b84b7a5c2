//! Reading all entries of an array at once, without allocating.

use crate::error::Result;
use crate::map::Map;
use crate::uapi::{BPF_MAP_LOOKUP_BATCH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY};

/// The most that is read at once, in bytes: what is meant for counters shall not swallow the memory for a huge array.
const MAX_LEN: usize = 64 << 20;

/// Buffers for reading arrays, plain and per-CPU, with one `BPF_MAP_LOOKUP_BATCH` each.
///
/// One reader serves any number of maps: its buffers grow to the largest one read and are used again. It works on maps
/// that were opened read-only, and then needs no capability.
#[derive(Debug, Default)]
pub struct BatchReader {
    keys: Vec<u8>,
    values: Vec<u8>,
    position: [u8; 4],
}

impl BatchReader {
    /// A reader with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads all entries. A map that is no array is an error, as is one whose values exceed 64 MiB.
    pub fn read(&mut self, map: &Map) -> Result<Entries<'_>> {
        let def = map.def();
        if !matches!(def.map_type, BPF_MAP_TYPE_ARRAY | BPF_MAP_TYPE_PERCPU_ARRAY) {
            return Err(map.refusal(BPF_MAP_LOOKUP_BATCH, format!("not an array: {def}")));
        }
        let entries = def.max_entries as usize;
        let len = entries
            .checked_mul(map.value_len())
            .filter(|&len| len <= MAX_LEN)
            .ok_or_else(|| map.refusal(BPF_MAP_LOOKUP_BATCH, format!("too large to read at once: {def}")))?;
        grow(&mut self.keys, entries * map.key_len());
        grow(&mut self.values, len);
        let keys = &mut self.keys[..entries * map.key_len()];
        let values = &mut self.values[..len];
        let found = map.lookup_batch(keys, values, &mut self.position)?;
        if found != entries {
            return Err(map.refusal(BPF_MAP_LOOKUP_BATCH, format!("{found} of {entries} entries")));
        }
        Ok(Entries {
            values: &self.values[..len],
            value_len: map.value_len(),
            slots: map.slots(),
            slot_len: map.slot_len(),
            size: def.value_size as usize,
        })
    }
}

fn grow(buffer: &mut Vec<u8>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
}

/// The entries of an array: for each key, from 0 on, a value per slot.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a> {
    values: &'a [u8],
    value_len: usize,
    slots: usize,
    slot_len: usize,
    size: usize,
}

impl<'a> Entries<'a> {
    /// The number of keys.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.value_len).unwrap_or(0)
    }

    /// Whether there are none, which the kernel does not allow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of values under each key: the number of possible CPUs for a per-CPU array, else 1.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The value under `key` in a slot, `value_size` bytes of it; `None` beyond the last.
    pub fn get(&self, key: usize, slot: usize) -> Option<&'a [u8]> {
        if slot >= self.slots {
            return None;
        }
        let start = key.checked_mul(self.value_len)? + slot * self.slot_len;
        self.values.get(start..start.checked_add(self.size)?)
    }

    /// The values under `key`, slot by slot; nothing beyond the last key.
    pub fn values(&self, key: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let entries = *self;
        (0..self.slots).map_while(move |slot| entries.get(key, slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_key_and_slot() {
        // Two keys, two slots of 4 bytes in a room of 8.
        let values: Vec<u8> = (0..32).collect();
        let entries = Entries { values: &values, value_len: 16, slots: 2, slot_len: 8, size: 4 };
        assert_eq!(entries.len(), 2);
        assert_eq!(entries.get(0, 0), Some(&[0, 1, 2, 3][..]));
        assert_eq!(entries.get(1, 1), Some(&[24, 25, 26, 27][..]));
        assert_eq!(entries.get(1, 2), None);
        assert_eq!(entries.get(2, 0), None);
        assert_eq!(entries.get(usize::MAX, 1), None);
        assert_eq!(entries.values(1).count(), 2);
        assert_eq!(entries.values(2).count(), 0);
    }
}
