//! Single places in the value of an array map, written while programs use the others.
//!
//! `BPF_MAP_UPDATE_ELEM` writes a whole value: what a program adds to another part of it meanwhile is lost. A map with
//! `BPF_F_MMAPABLE` shares its memory instead, and a store changes nothing but the bytes that it is about.
#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::{Error, Result};
use crate::map::Map;
use crate::uapi::{BPF_F_MMAPABLE, BPF_MAP_TYPE_ARRAY};

/// The value of an array map with one entry, in memory that programs share.
#[derive(Debug)]
pub struct MappedValue {
    shared: Shared,
    /// Bytes of the mapping: whole pages.
    mapped: usize,
    origin: String,
}

/// Memory that others read and write as well.
#[derive(Debug)]
struct Shared {
    /// Aligned to 8 bytes, and valid as long as this is.
    start: NonNull<u8>,
    len: usize,
}

impl MappedValue {
    /// Whether a map has a value that can be mapped: an array with `BPF_F_MMAPABLE` and one entry.
    pub fn is_possible(map: &Map) -> bool {
        let def = map.def();
        def.map_type == BPF_MAP_TYPE_ARRAY && def.flags & BPF_F_MMAPABLE != 0 && def.max_entries == 1
    }

    /// Maps the value of a map that is open for writing. `EINVAL` where it is none that can be mapped.
    pub fn map(map: &Map) -> Result<Self> {
        let origin = format!("map {}", map.id());
        if !Self::is_possible(map) {
            return Err(Error::invalid("mmap", origin, "no array of one entry with BPF_F_MMAPABLE"));
        }
        let len = map.value_len();
        // The kernel takes no more than the pages that the value lies in (array_map_mmap in kernel/bpf/arraymap.c).
        let mapped = len.next_multiple_of(rustix::param::page_size());
        // SAFETY: the kernel chooses where; no memory of ours is touched.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.as_fd(),
                0,
            )
        };
        let start = start.map_err(|errno| Error::new("mmap", origin.as_str(), errno))?;
        let start = NonNull::new(start.cast())
            .ok_or_else(|| Error::invalid("mmap", origin.as_str(), "mapped at address 0"))?;
        Ok(Self { shared: Shared { start, len }, mapped, origin })
    }

    /// Writes `bytes` at `offset`. Each number that is aligned is stored at once, so that a program reads the old or the
    /// new one: 1, 2, 4 or 8 bytes at a multiple of their size. Larger things are stored in such parts, and a program may
    /// see some of them before the others. `EINVAL` beyond the value.
    pub fn store(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        if self.shared.store(offset, bytes) {
            return Ok(());
        }
        let reason = format!("{} bytes at {offset} of {}", bytes.len(), self.shared.len);
        Err(Error::invalid("store", self.origin.as_str(), reason))
    }
}

impl Shared {
    /// See [`MappedValue::store`]. False, and nothing is written, beyond the end.
    fn store(&self, offset: usize, bytes: &[u8]) -> bool {
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.len) {
            return false;
        }
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let size = [8, 4, 2, 1].into_iter().find(|size| at.is_multiple_of(*size) && rest.len() >= *size);
            let (part, after) = rest.split_at(size.unwrap_or(1));
            self.store_part(at, part);
            (at, rest) = (at + part.len(), after);
        }
        true
    }

    /// Stores 1, 2, 4 or 8 bytes at a multiple of their number, within the memory.
    fn store_part(&self, at: usize, part: &[u8]) {
        // SAFETY: within the memory, by the caller's check.
        let place = unsafe { self.start.as_ptr().add(at) };
        match part.len() {
            // SAFETY: aligned, as the memory is; valid until `self` is dropped; never referred to but so.
            8 => unsafe { AtomicU64::from_ptr(place.cast()) }
                .store(u64::from_ne_bytes(word(part)), Ordering::Relaxed),
            // SAFETY: as above.
            4 => unsafe { AtomicU32::from_ptr(place.cast()) }
                .store(u32::from_ne_bytes(word(part)), Ordering::Relaxed),
            // SAFETY: as above.
            2 => unsafe { AtomicU16::from_ptr(place.cast()) }
                .store(u16::from_ne_bytes(word(part)), Ordering::Relaxed),
            // SAFETY: as above.
            1 => unsafe { AtomicU8::from_ptr(place) }.store(part[0], Ordering::Relaxed),
            len => unreachable!("a part of {len} bytes"),
        }
    }
}

/// The bytes as an array of as many.
fn word<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut word = [0; N];
    word.copy_from_slice(bytes);
    word
}

impl Drop for MappedValue {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made, and nothing refers to it any more.
        let _ = unsafe { munmap(self.shared.start.as_ptr().cast(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_within_the_memory_writes_its_bytes_and_no_others() {
        const LEN: usize = 29;
        for offset in 0..=LEN + 1 {
            for count in 0..=LEN {
                let mut words = [u64::from_ne_bytes([0xaa; 8]); 4];
                let start = NonNull::new(words.as_mut_ptr().cast::<u8>()).unwrap();
                let bytes: Vec<u8> = (1..=LEN).take(count).map(|n| u8::try_from(n).unwrap()).collect();
                let stored = Shared { start, len: LEN }.store(offset, &bytes);
                let mut expected = [0xaa; 32];
                assert_eq!(stored, offset + count <= LEN);
                if stored {
                    expected[offset..offset + count].copy_from_slice(&bytes);
                }
                let found: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                assert_eq!(found, expected, "{count} bytes at {offset}");
            }
        }
    }
}
