//! All entries of a map, read and written many at a time.
//!
//! For maps whose entries stay until somebody takes them out: hash, array and LPM trie, plain and per-CPU, and maps of
//! maps. Linux 6.1 has the batched calls for each of them.

use std::os::fd::AsFd;

use super::{Command, Map, if_room};
use crate::error::{Error, Result};
use crate::sys;
use crate::uapi::{BPF_MAP_DELETE_BATCH, BPF_MAP_LOOKUP_BATCH, BPF_MAP_UPDATE_BATCH, MapBatch};

/// About as many bytes are read by one call.
const ROOM: usize = 1 << 20;

impl Map {
    /// Shows every entry to `entry`: its key and all that is under it, [`key_len`](Self::key_len) and
    /// [`value_len`](Self::value_len) bytes.
    ///
    /// What others change meanwhile may be shown as it was, as it is, twice or not at all. Everything else is shown
    /// once. Needs no more than a map that was opened read-only.
    pub fn for_each(&self, mut entry: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let (key_len, value_len) = (self.key_len(), self.value_len());
        self.for_each_batch(|keys, values| {
            let entries = keys.chunks_exact(key_len).zip(values.chunks_exact(value_len));
            entries.for_each(|(key, value)| entry(key, value));
            Ok(())
        })
    }

    /// As [`for_each`](Self::for_each), with as many entries at a time as one call gives: their keys, and as many values.
    /// Ends with the first error of `batch`.
    pub fn for_each_batch<E: From<Error>>(
        &self,
        mut batch: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (key_len, value_len) = (self.key_len(), self.value_len());
        let most = self.def().max_entries as usize;
        let mut room = (ROOM / key_len.saturating_add(value_len).max(1)).clamp(1, most.max(1));
        // A hash map's position is the number of a bucket, that of the others a key.
        let mut position = vec![0; key_len.max(4)];
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut begun = false;
        loop {
            for (buffer, len) in [(&mut keys, key_len), (&mut values, value_len)] {
                sys::resize(buffer, room.saturating_mul(len))
                    .map_err(|source| self.error(BPF_MAP_LOOKUP_BATCH, source))?;
            }
            let (found, ended) = match self.next_batch(&mut keys, &mut values, &mut position, begun) {
                // A bucket of a hash map is given as a whole, and there was no room for the next one.
                Err(error) if error.is(libc::ENOSPC) && room < most => {
                    room = (room * 2).min(most);
                    continue;
                }
                found => found?,
            };
            if found > 0 {
                batch(&keys[..found * key_len], &values[..found * value_len])?;
            }
            if ended {
                return Ok(());
            }
            begun = true;
        }
    }

    /// Reads the values of an array from the index `first` on: as many as there is room for in `values`, a multiple of
    /// [`value_len`](Self::value_len) bytes.
    pub fn lookup_run(&self, first: u32, values: &mut [u8]) -> Result<()> {
        let wanted = values.len() / self.value_len().max(1);
        self.check(BPF_MAP_LOOKUP_BATCH, "values", values.len(), wanted * self.value_len())?;
        if wanted == 0 {
            return Ok(());
        }
        let mut keys = vec![0; wanted * self.key_len()];
        // The kernel goes on after the position.
        let mut position = first.wrapping_sub(1).to_ne_bytes();
        let (found, _) = self.next_batch(&mut keys, values, &mut position, first > 0)?;
        if found != wanted {
            return Err(self.refusal(BPF_MAP_LOOKUP_BATCH, format!("{found} of {wanted} entries")));
        }
        Ok(())
    }

    /// One `BPF_MAP_LOOKUP_BATCH`, from the beginning or from where the last one has left `position`. Tells how many
    /// entries it has read, and whether they were the last.
    pub(super) fn next_batch(
        &self,
        keys: &mut [u8],
        values: &mut [u8],
        position: &mut [u8],
        begun: bool,
    ) -> Result<(usize, bool)> {
        const CALL: Command = BPF_MAP_LOOKUP_BATCH;
        let count = self.batch_len(CALL, keys.len(), values.len())?;
        self.check(CALL, "position", position.len(), self.key_len().max(4))?;
        // A copy: before Linux 6.14 an entry of a trie that is removed meanwhile can end a call early (`EINTR` of
        // generic_map_lookup_batch in kernel/bpf/syscall.c), with the position moved on. It is repeated from the same
        // place.
        let from = if begun { position.to_vec() } else { Vec::new() };
        let mut call = || {
            let mut attr = MapBatch {
                in_batch: sys::address(&from),
                out_batch: sys::address_mut(position),
                keys: sys::address_mut(keys),
                values: sys::address_mut(values),
                ..self.batch(count)
            };
            // SAFETY: the kernel writes at most `count` keys and values, for which both slices have room. It reads one
            // position unless its address is null, and writes one: of a key's length, or of 4 bytes for hash maps.
            match unsafe { sys::bpf(CALL, &mut attr) } {
                Ok(_) => Ok((attr.count, false)),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attr.count, true)),
                Err(source) => Err(self.error(CALL, source)),
            }
        };
        let (found, ended) = match call()? {
            // The last entries, or an answer of somebody who has not even looked: then the number is still ours.
            (found, true) if found == count && count > 0 => call()?,
            answer => answer,
        };
        if found > count {
            return Err(self.refusal(CALL, format!("{found} entries where {count} have room")));
        }
        Ok((found as usize, ended))
    }

    /// Writes entries, new ones and others: `keys` and `values` one after the other, each
    /// [`key_len`](Self::key_len) and [`value_len`](Self::value_len) bytes long.
    ///
    /// They are written in order, each at once. After an error, as when the map is full, the first of them may be there.
    pub fn update_all(&self, keys: &[u8], values: &[u8]) -> Result<()> {
        const CALL: Command = BPF_MAP_UPDATE_BATCH;
        let count = self.batch_len(CALL, keys.len(), values.len())?;
        if count == 0 {
            return Ok(());
        }
        let mut attr =
            MapBatch { keys: sys::address(keys), values: sys::address(values), ..self.batch(count) };
        // SAFETY: the kernel reads `count` keys and values, and both slices are that long.
        let answer = unsafe { sys::bpf(CALL, &mut attr) };
        answer.map(drop).map_err(|source| self.error(CALL, source))
    }

    /// As [`update_all`](Self::update_all); false where the map has no room for all of them. The first may be there then.
    pub fn update_all_if_room(&self, keys: &[u8], values: &[u8]) -> Result<bool> {
        if_room(|| self.update_all(keys, values))
    }

    /// Puts maps into this map of maps, as [`put`](Self::put) does, in one call: of those the kernel makes each wait until no
    /// program looks at what was there before.
    pub fn put_all<'a>(&self, maps: impl IntoIterator<Item = (&'a [u8], &'a Self)>) -> Result<()> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (key, map) in maps {
            keys.extend_from_slice(key);
            values.extend_from_slice(&sys::number(map.as_fd()).to_ne_bytes());
        }
        self.update_all(&keys, &values)
    }

    /// Removes the entries with these keys, which follow each other. That one is not there is no error.
    pub fn delete_all(&self, mut keys: &[u8]) -> Result<()> {
        const CALL: Command = BPF_MAP_DELETE_BATCH;
        loop {
            let count = self.key_count(CALL, keys.len())?;
            if count == 0 {
                return Ok(());
            }
            let mut attr = MapBatch { keys: sys::address(keys), ..self.batch(count) };
            // SAFETY: the kernel reads `count` keys, and the slice is that long.
            let answer = unsafe { sys::bpf(CALL, &mut attr) };
            match answer {
                Ok(_) => return Ok(()),
                // The call ends at the first that is not there.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) && attr.count < count => {
                    keys = &keys[(attr.count as usize + 1) * self.key_len()..];
                }
                Err(source) => return Err(self.error(CALL, source)),
            }
        }
    }

    /// The number of entries in two slices, which must hold as many keys as values.
    fn batch_len(&self, call: Command, keys: usize, values: usize) -> Result<u32> {
        let count = self.key_count(call, keys)?;
        self.check(call, "values", values, (count as usize).saturating_mul(self.value_len()))?;
        Ok(count)
    }

    /// The number of keys in a slice of this length.
    fn key_count(&self, call: Command, len: usize) -> Result<u32> {
        let count = len.checked_div(self.key_len()).unwrap_or(0);
        self.check(call, "keys", len, count * self.key_len())?;
        u32::try_from(count).map_err(|_| Error::invalid(call.name, self.origin.as_str(), "too many keys"))
    }

    fn batch(&self, count: u32) -> MapBatch {
        MapBatch { count, map_fd: sys::number(self.as_fd()), ..MapBatch::default() }
    }
}
