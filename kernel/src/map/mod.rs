//! Maps: what they are, and their entries.
//!
//! The kernel copies keys and values by the sizes that the map has, not by the lengths of our buffers. So each call
//! here compares the two first, and a slice of another length is an error.
#![allow(unsafe_code)]

mod entries;
pub(crate) mod measure;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use xdpd_types::{MapDef, MapInfo, ValueLayout, map_type_name};

use crate::btf::Btf;
use crate::error::{Error, PinError, Result};
use xdpd_types::{BtfId, MapId, ObjectKind, layout};

use crate::object::{self, Ids};
use crate::sys;
#[allow(clippy::wildcard_imports, reason = "the kernel's names are prefixed already")]
use crate::uapi::*;

/// The type information that a new map is given.
#[derive(Debug, Clone, Copy)]
pub struct MapBtf<'a> {
    /// The BTF object.
    pub btf: &'a Btf,
    /// The type of the key in it.
    pub key_type_id: u32,
    /// The type of the value in it.
    pub value_type_id: u32,
}

/// What a new map is given beside its definition.
#[derive(Debug, Clone, Copy, Default)]
pub struct MapExtras<'a> {
    /// The types of its keys and values.
    pub btf: Option<MapBtf<'a>>,
    /// Of a map of maps: one like those that it will hold. It is only looked at.
    pub inner: Option<&'a Map>,
    /// The memory node for it; of no effect unless its flags have `BPF_F_NUMA_NODE`.
    pub numa_node: u32,
}

/// An open map.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    info: MapInfo,
    /// Bytes per key and value that the kernel copies: every access relies on them.
    key_len: usize,
    layout: ValueLayout,
    /// Why no entry may be read or written.
    refusal: Option<String>,
    origin: String,
}

impl Map {
    /// Makes a map. The kernel keeps the first 15 bytes of `name`.
    ///
    /// Needs `CAP_BPF`. The map lives as long as something refers to it: this descriptor, a pin, a program.
    pub fn create(name: &str, def: &MapDef, btf: Option<MapBtf<'_>>) -> Result<Self> {
        Self::create_with(name, def, MapExtras { btf, ..MapExtras::default() })
    }

    /// Makes a map, as [`create`](Self::create) does, that takes more than a definition and types.
    pub fn create_with(name: &str, def: &MapDef, extras: MapExtras<'_>) -> Result<Self> {
        let mut attr = MapCreate {
            map_type: def.map_type,
            key_size: def.key_size,
            value_size: def.value_size,
            max_entries: def.max_entries,
            map_flags: def.flags,
            map_name: object::to_kernel_name(name),
            map_extra: def.map_extra,
            inner_map_fd: extras.inner.map_or(0, |inner| sys::number(inner.as_fd())),
            numa_node: extras.numa_node,
            ..MapCreate::default()
        };
        if let Some(btf) = extras.btf {
            attr.btf_fd = sys::number(btf.btf.as_fd());
            attr.btf_key_type_id = btf.key_type_id;
            attr.btf_value_type_id = btf.value_type_id;
        }
        let origin = format!("map {name}");
        let fd = sys::map_create(&mut attr)
            .map_err(|source| Error::new(BPF_MAP_CREATE.name, format!("{origin} ({def})"), source))?;
        Self::known(fd, origin)
    }

    /// Opens a map by its id. Needs `CAP_SYS_ADMIN`.
    pub fn open_by_id(id: MapId) -> Result<Self> {
        let origin = format!("map {id}");
        let fd = sys::fd_by_id(BPF_MAP_GET_FD_BY_ID, id.0)
            .map_err(|source| Error::new(BPF_MAP_GET_FD_BY_ID.name, origin.as_str(), source))?;
        Self::known(fd, origin)
    }

    /// Opens a map by its id; `None` when there is none. Needs `CAP_SYS_ADMIN`.
    pub fn find_by_id(id: MapId) -> Result<Option<Self>> {
        let origin = format!("map {id}");
        let fd = object::find_by_id(BPF_MAP_GET_FD_BY_ID, id.0, &origin)?;
        fd.map(|fd| Self::known(fd, origin)).transpose()
    }

    /// Takes a descriptor from elsewhere, which must be of a map. `origin` names it in errors.
    pub fn from_fd(fd: OwnedFd, origin: impl Into<String>) -> Result<Self, PinError> {
        let origin = origin.into();
        object::expect(&fd, ObjectKind::Map, &origin)?;
        Ok(Self::known(fd, origin)?)
    }

    /// Takes a descriptor that is known to be of a map.
    pub(crate) fn known(fd: OwnedFd, origin: String) -> Result<Self> {
        let raw = sys::map_info(fd.as_fd())
            .map_err(|source| Error::new(BPF_OBJ_GET_INFO_BY_FD.name, origin.as_str(), source))?;
        let def = MapDef {
            map_type: raw.map_type,
            key_size: raw.key_size,
            value_size: raw.value_size,
            max_entries: raw.max_entries,
            flags: raw.map_flags,
            map_extra: raw.map_extra,
        };
        let info = MapInfo {
            id: MapId(raw.id),
            name: object::from_kernel_name(&raw.name),
            def,
            btf_id: (raw.btf_id != 0).then_some(BtfId(raw.btf_id)),
            btf_key_type_id: raw.btf_key_type_id,
            btf_value_type_id: raw.btf_value_type_id,
        };
        let mut refusal = layout::refusal(def.map_type);
        let mut cpus = 0;
        if def.is_per_cpu() && refusal.is_none() {
            match measure::by(fd.as_fd(), &def, &origin) {
                Ok(count) => cpus = count,
                Err(reason) => refusal = Some(reason),
            }
        }
        let layout = ValueLayout::new(&def, cpus);
        Ok(Self { fd, info, key_len: def.key_size as usize, layout, refusal, origin })
    }

    /// The ids of all maps in the kernel.
    pub fn ids() -> Ids<MapId> {
        Ids::new(BPF_MAP_GET_NEXT_ID, MapId)
    }

    /// What the kernel knows about this map.
    pub fn info(&self) -> &MapInfo {
        &self.info
    }

    /// Its id.
    pub fn id(&self) -> MapId {
        self.info.id
    }

    /// Its definition.
    pub fn def(&self) -> &MapDef {
        &self.info.def
    }

    /// The length of a key in bytes.
    pub fn key_len(&self) -> usize {
        self.key_len
    }

    /// Where the values under one key are. Those of a per-CPU map whose number is not known, and of a map of a type whose
    /// entries are not accessed here, have no length: each access is an error that says why.
    pub fn layout(&self) -> ValueLayout {
        self.layout
    }

    /// The length in bytes of all that is under one key. For a per-CPU map that is one value per possible CPU, each
    /// rounded up to 8 bytes.
    pub fn value_len(&self) -> usize {
        self.layout.len()
    }

    /// Reads the value under `key`, which is [`key_len`](Self::key_len) bytes, into `value`, which is
    /// [`value_len`](Self::value_len) bytes. False when there is no such key.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        self.check(BPF_MAP_LOOKUP_ELEM, "key", key.len(), self.key_len)?;
        self.check(BPF_MAP_LOOKUP_ELEM, "value", value.len(), self.value_len())?;
        let mut attr = self.elem(key);
        attr.value = sys::address_mut(value);
        // SAFETY: the kernel reads one key and writes one value, and both slices are as long as this map's.
        let answer = sys::present_if_any(|| unsafe { sys::bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) });
        self.found(BPF_MAP_LOOKUP_ELEM, answer)
    }

    /// Writes `value` under `key`; `flags` are 0, `BPF_NOEXIST` (1: it is an error when it is there) or `BPF_EXIST` (2: it is
    /// an error when it is not).
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        self.check(BPF_MAP_UPDATE_ELEM, "key", key.len(), self.key_len)?;
        self.check(BPF_MAP_UPDATE_ELEM, "value", value.len(), self.value_len())?;
        let mut attr = MapElem { value: sys::address(value), flags, ..self.elem(key) };
        // SAFETY: the kernel reads one key and one value, and both slices are as long as this map's.
        let answer = unsafe { sys::bpf(BPF_MAP_UPDATE_ELEM, &mut attr) };
        answer.map(drop).map_err(|source| self.error(BPF_MAP_UPDATE_ELEM, source))
    }

    /// Writes `value` under `key`, as [`update`](Self::update) does; false where the map has no room for another entry.
    pub fn update_if_room(&self, key: &[u8], value: &[u8]) -> Result<bool> {
        if_room(|| self.update(key, value, 0))
    }

    /// Writes `value` under `key` unless an entry is there; false where the map has no room for another.
    pub fn add_if_room(&self, key: &[u8], value: &[u8]) -> Result<bool> {
        if_room(|| match self.update(key, value, BPF_NOEXIST) {
            Err(error) if error.is(libc::EEXIST) && self.lookup(key, &mut vec![0; self.value_len()])? => {
                Ok(())
            }
            other => other,
        })
    }

    /// Puts a map, a program or whatever else this map is for under `key`. It lives as long as it is there.
    ///
    /// It is an error when it is not like the others: of another definition than the inner map that this one was made with, or
    /// a program that declares another use than those that use this map.
    pub fn put(&self, key: &[u8], object: &impl AsFd) -> Result<()> {
        self.update(key, &sys::number(object.as_fd()).to_ne_bytes(), 0)
    }

    /// Removes an entry. False when there is no such key.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        self.check(BPF_MAP_DELETE_ELEM, "key", key.len(), self.key_len)?;
        let mut attr = self.elem(key);
        // SAFETY: the kernel reads one key, and the slice is as long as this map's.
        let answer = sys::present_if_any(|| unsafe { sys::bpf(BPF_MAP_DELETE_ELEM, &mut attr) });
        self.found(BPF_MAP_DELETE_ELEM, answer)
    }

    /// All keys, in the kernel's order. When the key last returned is deleted meanwhile, a hash map starts over.
    pub fn keys(&self) -> Keys<'_> {
        Keys { map: self, last: None, done: false }
    }

    /// Reads as many entries as there is room for, from the first, with one `BPF_MAP_LOOKUP_BATCH`, and tells how
    /// many there were.
    ///
    /// `keys` must be a multiple of [`key_len`](Self::key_len) long and `values` as many times
    /// [`value_len`](Self::value_len); `position` is for the kernel's use and [`key_len`](Self::key_len) bytes long, at
    /// least 4.
    pub fn lookup_batch(&self, keys: &mut [u8], values: &mut [u8], position: &mut [u8]) -> Result<usize> {
        self.next_batch(keys, values, position, false).map(|(count, _)| count)
    }

    /// Lets user space change no entry any more.
    pub fn freeze(&self) -> Result<()> {
        sys::map_freeze(self.as_fd()).map_err(|source| self.error(BPF_MAP_FREEZE, source))
    }

    /// The key after `key` into `next`, the first one after `None`. False after the last.
    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool> {
        let key = key.unwrap_or_default();
        if !key.is_empty() {
            self.check(BPF_MAP_GET_NEXT_KEY, "key", key.len(), self.key_len)?;
        }
        self.check(BPF_MAP_GET_NEXT_KEY, "key", next.len(), self.key_len)?;
        let mut attr = self.elem(key);
        attr.value = sys::address_mut(next);
        // SAFETY: the kernel reads one key unless its address is null, and writes one; both slices are long enough.
        let answer = sys::present_if_any(|| unsafe { sys::bpf(BPF_MAP_GET_NEXT_KEY, &mut attr) });
        self.found(BPF_MAP_GET_NEXT_KEY, answer)
    }

    fn elem(&self, key: &[u8]) -> MapElem {
        MapElem { map_fd: sys::number(self.as_fd()), key: sys::address(key), ..MapElem::default() }
    }

    /// To be called before the kernel reads or writes a buffer of this length.
    fn check(&self, call: Command, what: &str, found: usize, expected: usize) -> Result<()> {
        if let Some(reason) = &self.refusal {
            return Err(self.refusal(call, reason.clone()));
        }
        if found == expected {
            return Ok(());
        }
        let reason = format!("buffer of {found} bytes for a {what} of {expected} bytes");
        Err(Error::invalid(call.name, self.origin.as_str(), reason))
    }

    fn found(&self, call: Command, answer: io::Result<Option<i32>>) -> Result<bool> {
        answer.map(|found| found.is_some()).map_err(|source| self.error(call, source))
    }

    fn error(&self, call: Command, source: io::Error) -> Error {
        Error::new(call.name, self.origin.as_str(), source)
    }

    pub(crate) fn refusal(&self, call: Command, reason: String) -> Error {
        Error::invalid(call.name, self.origin.as_str(), reason)
    }
}

/// A map is full when the kernel says so twice: `E2BIG` of hash maps, `ENOSPC` of tries.
fn if_room(change: impl Fn() -> Result<()>) -> Result<bool> {
    let is_full = |error: &Error| error.is(libc::E2BIG) || error.is(libc::ENOSPC);
    match change() {
        Err(error) if is_full(&error) => match change() {
            Err(error) if is_full(&error) => Ok(false),
            again => again.map(|()| true),
        },
        first => first.map(|()| true),
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Map> for OwnedFd {
    fn from(map: Map) -> Self {
        map.fd
    }
}

/// Walks over the keys of a map; see [`Map::keys`].
#[derive(Debug)]
pub struct Keys<'a> {
    map: &'a Map,
    last: Option<Vec<u8>>,
    done: bool,
}

impl Iterator for Keys<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let mut next = vec![0; self.map.key_len];
        match self.map.next_key(self.last.as_deref(), &mut next) {
            Ok(true) => {
                self.last = Some(next.clone());
                Some(Ok(next))
            }
            Ok(false) => {
                self.done = true;
                None
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}
