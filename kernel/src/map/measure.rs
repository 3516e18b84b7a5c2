//! How many values a per-CPU map has under each key: the kernel is asked with more room than it can fill.
#![allow(unsafe_code)]

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use super::{MapDef, ValueLayout};
use crate::error::{Error, Result};
use crate::sys;
use crate::uapi::{
    BPF_MAP_CREATE, BPF_MAP_GET_NEXT_KEY, BPF_MAP_LOOKUP_ELEM, BPF_MAP_TYPE_PERCPU_ARRAY, MapCreate, MapElem,
};

/// The number of possible CPUs, once it is known. It does not change while the kernel runs.
static COUNT: OnceLock<usize> = OnceLock::new();

/// The number of possible CPUs, if it was measured already.
pub(crate) fn known() -> Option<usize> {
    COUNT.get().copied()
}

/// Keeps the number of possible CPUs that was measured.
fn remember(count: usize) -> usize {
    *COUNT.get_or_init(|| count)
}

/// How often another entry is tried: the first can be gone before it is read.
const ATTEMPTS: usize = 16;

/// The number of possible CPUs, by a per-CPU map, or where that tells nothing by one that is made for it. In words why it
/// is not known.
pub(super) fn by(map: BorrowedFd<'_>, def: &MapDef, origin: &str) -> Result<usize, String> {
    if let Some(count) = known() {
        return Ok(count);
    }
    let why = match count(map, def) {
        Ok(Some(count)) => return Ok(remember(count)),
        Ok(None) => format!("{origin} has no entry to measure it with"),
        Err(error) => error.to_string(),
    };
    by_own_map().map_err(|error| format!("the number of its values per key is not known: {why}, and {error}"))
}

/// The number of possible CPUs, by a map that is made for it. Needs `CAP_BPF`.
pub(crate) fn by_own_map() -> Result<usize> {
    const OBJECT: &str = "map xdpd_cpus";
    let def = MapDef {
        map_type: BPF_MAP_TYPE_PERCPU_ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        ..MapDef::default()
    };
    let mut attr = MapCreate {
        map_type: def.map_type,
        key_size: def.key_size,
        value_size: def.value_size,
        max_entries: def.max_entries,
        map_name: crate::object::to_kernel_name("xdpd_cpus"),
        ..MapCreate::default()
    };
    let map = sys::map_create(&mut attr)
        .map_err(|source| Error::new(BPF_MAP_CREATE.name, format!("{OBJECT} ({def})"), source))?;
    let found = count(map.as_fd(), &def)
        .map_err(|source| Error::new(BPF_MAP_LOOKUP_ELEM.name, OBJECT, source))?
        .ok_or_else(|| Error::invalid(BPF_MAP_LOOKUP_ELEM.name, OBJECT, "an array without an entry"))?;
    Ok(remember(found))
}

/// The number of values under each key of a per-CPU map; `None` when it has no entry.
fn count(map: BorrowedFd<'_>, def: &MapDef) -> io::Result<Option<usize>> {
    // There are no more possible CPUs than the kernel's masks of CPUs have bits.
    let most = sys::cpu_bits()?;
    let room = ValueLayout::new(def, most + 1);
    let mut values = Vec::new();
    sys::resize(&mut values, room.len())?;
    let mut key = vec![0; def.key_size as usize];
    for _ in 0..ATTEMPTS {
        // An array has its first entry always.
        if def.map_type != BPF_MAP_TYPE_PERCPU_ARRAY && !first_key(map, &mut key)? {
            break;
        }
        if let Some(count) = written(room, &mut values, |values| look_up(map, &key, values))? {
            return Ok(Some(count));
        }
    }
    Ok(None)
}

/// How many values `look_up` writes, for which there is room and one more; `None` when it finds none.
fn written(
    room: ValueLayout,
    values: &mut [u8],
    mut look_up: impl FnMut(&mut [u8]) -> io::Result<bool>,
) -> io::Result<Option<usize>> {
    let mut is_written = vec![false; room.count()];
    // Twice, with marks that nobody can have put into the map: a value that is equal to one is not equal to the other.
    for mark in [1, 2].map(|n| RandomState::new().hash_one(n).to_ne_bytes()) {
        room.values_mut(values).for_each(|value| value[..mark.len()].copy_from_slice(&mark));
        if !look_up(values)? {
            return Ok(None);
        }
        for (is_written, value) in is_written.iter_mut().zip(room.values(values)) {
            *is_written |= !value.starts_with(&mark);
        }
    }
    extent(&is_written, room.count().saturating_sub(1)).map(Some)
}

/// How many of the places at the beginning were written, when none behind them was.
fn extent(is_written: &[bool], most: usize) -> io::Result<usize> {
    let count = is_written.iter().take_while(|is_written| **is_written).count();
    let strays = is_written.iter().skip(count).filter(|is_written| **is_written).count();
    if count == 0 || count > most || strays > 0 {
        let reason =
            format!("the kernel has written {count} values and {strays} apart from them, of {most} at most");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(count)
}

fn first_key(map: BorrowedFd<'_>, key: &mut [u8]) -> io::Result<bool> {
    let found = sys::present_if_any(|| {
        let mut attr =
            MapElem { map_fd: sys::number(map), value: sys::address_mut(key), ..MapElem::default() };
        // SAFETY: the kernel writes one key, and the slice is as long as this map's.
        unsafe { sys::bpf(BPF_MAP_GET_NEXT_KEY, &mut attr) }
    });
    Ok(found?.is_some())
}

/// `values` must have room for a value of each CPU that there can be.
fn look_up(map: BorrowedFd<'_>, key: &[u8], values: &mut [u8]) -> io::Result<bool> {
    let found = sys::present_if_any(|| {
        let mut attr = MapElem {
            map_fd: sys::number(map),
            key: sys::address(key),
            value: sys::address_mut(values),
            ..MapElem::default()
        };
        // SAFETY: the kernel reads one key and writes a value of each possible CPU. The key is as long as this map's, and
        // there is room for values of more CPUs than there can be.
        unsafe { sys::bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) }
    });
    Ok(found?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 64;

    /// What is measured where the kernel writes so many values of 12 bytes, each with these bytes, into room for 64.
    fn measured(count: usize, mut fill: impl FnMut(&mut [u8])) -> io::Result<Option<usize>> {
        let def = MapDef { map_type: BPF_MAP_TYPE_PERCPU_ARRAY, value_size: 12, ..MapDef::default() };
        let room = ValueLayout::new(&def, MOST + 1);
        written(room, &mut vec![0; room.len()], |values| {
            room.values_mut(values).take(count).for_each(&mut fill);
            Ok(true)
        })
    }

    #[test]
    fn as_many_values_are_counted_as_the_kernel_writes() {
        for count in [1, 2, 7, 63, 64] {
            assert_eq!(measured(count, |value| value.fill(0)).unwrap(), Some(count));
            assert_eq!(measured(count, |value| value.fill(0xff)).unwrap(), Some(count));
            // Values that change meanwhile.
            let mut n = 0_u64;
            let counting = |value: &mut [u8]| {
                n += 1;
                value[..8].copy_from_slice(&n.to_ne_bytes());
            };
            assert_eq!(measured(count, counting).unwrap(), Some(count));
        }
    }

    #[test]
    fn a_value_that_is_equal_to_a_mark_is_counted_all_the_same() {
        let mut before = None;
        let first_mark_again = |value: &mut [u8]| {
            let mark = *before.get_or_insert_with(|| value[..8].to_vec().try_into().unwrap_or([0; 8]));
            value[..8].copy_from_slice(&mark);
        };
        assert_eq!(measured(3, first_mark_again).unwrap(), Some(3));
    }

    #[test]
    fn an_answer_that_no_kernel_gives_is_an_error() {
        for count in [0, MOST + 1] {
            assert!(measured(count, |value| value.fill(0)).is_err());
        }
        let written = |pattern: &str| pattern.bytes().map(|byte| byte == b'x').collect::<Vec<_>>();
        assert_eq!(extent(&written("xx..."), 4).unwrap(), 2);
        for nonsense in [".....", "xxxxx", "xx.x.", ".x..."] {
            assert!(extent(&written(nonsense), 4).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn an_entry_that_is_gone_is_not_measured() {
        let room = ValueLayout::new(
            &MapDef { map_type: BPF_MAP_TYPE_PERCPU_ARRAY, value_size: 8, ..MapDef::default() },
            3,
        );
        assert_eq!(written(room, &mut vec![0; room.len()], |_| Ok(false)).unwrap(), None);
    }
}
