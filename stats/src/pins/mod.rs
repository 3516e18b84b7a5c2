//! What is pinned: the pin root, the pins of one interface, and the maps that are held open.
//!
//! Nothing is written here, and maps are opened read-only. A look at a directory of pins costs some system calls, a tick
//! of a map that did not change shall cost one: so inotify tells which directories to look at again. Where it cannot (no
//! permission, no watches left, a queue that overflowed) they are looked at at every tick.

mod root;
mod stats_map;

use std::ffi::OsStr;

use xdpd_config::{Label, OWNER_PIN, Record, escape, retired};
use xdpd_kernel::watch::WatchId;
use xdpd_kernel::{Access, Dir, Error, Look, Map, MapId};

use crate::delta::{Reading, Retired};
use crate::denied::unless_denied;
use root::RootState;

pub(crate) use root::{Changes, Root};
pub(crate) use stats_map::Buffers;
use stats_map::{SHAPE, is_stats_map};

/// How often a directory is looked at again because it was exchanged meanwhile.
const ATTEMPTS: u32 = 16;

/// The pins of one interface, as they were found, and the maps that are held open.
#[derive(Debug)]
pub(crate) struct Pins {
    directory: String,
    map: String,
    found: Found,
    /// The map that the pin holds. Not among the others: at most ticks of most interfaces it is the only one.
    current: Option<Held>,
    /// Maps that were current, and retired ones.
    others: Vec<Held>,
    watched: Option<WatchId>,
    /// Device and inode of the directory that was looked at.
    identity: Option<(u64, u64)>,
    /// What was found is not to be relied on.
    stale: bool,
}

/// A map that is held open, and what was last read of it.
#[derive(Debug)]
struct Held {
    map: Map,
    reading: Reading,
    /// Why it could not be read.
    failure: Option<String>,
}

/// What a directory of pins holds.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) pin: Pin,
    /// In the order of their generations.
    pub(crate) retired: Vec<Retired>,
    pub(crate) device: Option<Device>,
    /// What is wrong with the record, if it cannot be read.
    pub(crate) bad_record: Option<String>,
}

/// What the pin of the stats map is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pin {
    /// The current map, which is held open.
    Map {
        generation: Option<u64>,
        base: Option<MapId>,
    },
    Absent(String),
    Other(String),
    Unreadable(String),
}

/// The device as the record tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) ifindex: u32,
}

impl Found {
    fn only(pin: Pin) -> Self {
        Self { pin, retired: Vec::new(), device: None, bad_record: None }
    }
}

impl Pins {
    /// The pins of `label`, of which the map called `map` is read; nothing is looked at yet.
    pub(crate) fn new(label: &Label, map: &str) -> Self {
        Self {
            directory: label.file_name(),
            map: map.to_owned(),
            found: Found::only(Pin::Absent(String::new())),
            current: None,
            others: Vec::new(),
            watched: None,
            identity: None,
            stale: true,
        }
    }

    pub(crate) fn found(&self) -> &Found {
        &self.found
    }

    /// Reads all maps that are held open.
    pub(crate) fn read(&mut self, buffers: &mut Buffers) {
        for held in self.current.iter_mut().chain(&mut self.others) {
            held.failure = buffers.read(&held.map, &mut held.reading).err();
        }
    }

    /// What was last read of the current map, or why it could not be.
    pub(crate) fn current(&self) -> Option<Result<&Reading, &str>> {
        let held = self.current.as_ref()?;
        Some(held.failure.as_deref().map_or(Ok(&held.reading), Err))
    }

    /// What was last read of the other maps.
    pub(crate) fn others(&self) -> Vec<&Reading> {
        self.others.iter().filter(|held| held.failure.is_none()).map(|held| &held.reading).collect()
    }

    /// Closes the maps that are not worth holding.
    pub(crate) fn keep(&mut self, holds: impl Fn(MapId) -> bool) {
        self.others.retain(|held| holds(held.map.id()));
    }

    /// There is no current map any more.
    pub(crate) fn release(&mut self) {
        self.others.extend(self.current.take());
    }

    /// Takes note of changes.
    pub(crate) fn told(&mut self, changes: &Changes) {
        self.stale |= changes.all
            || changes.entries.iter().any(|name| name == OsStr::new(&self.directory))
            || self.watched.is_some_and(|id| changes.directories.contains(&id));
    }

    /// The directory is to be looked at again.
    pub(crate) fn suspect(&mut self) {
        self.stale = true;
    }

    /// Looks whether the directory is another one by now, as when something was mounted over it: inotify does not tell.
    pub(crate) fn verify(&mut self, root: &Root) {
        let RootState::Open(dir) = &root.state else { return };
        let identity = dir.stat(&self.directory).ok().map(|stat| (stat.dev, stat.ino));
        self.stale |= identity != self.identity;
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Stops watching.
    pub(crate) fn close(&mut self, root: &Root) {
        root.unwatch(self.watched.take());
    }

    /// Looks at the directory, and opens the current map and those retired ones that `wants` asks for.
    pub(crate) fn resolve(&mut self, root: &Root, wants: impl Fn(MapId) -> bool) {
        let dir = match &root.state {
            RootState::Open(dir) => dir,
            RootState::Missing(reason) => return self.set(Found::only(Pin::Absent(reason.clone())), true),
            RootState::Unreadable(reason) => {
                return self.set(Found::only(Pin::Unreadable(reason.clone())), true);
            }
        };
        for _ in 0..ATTEMPTS {
            // A directory that was exchanged and is being taken down looks like one whose pins are gone.
            if let Some((found, complete)) = self.look(root, dir, &wants) {
                // What inotify does not tell of, a permission that is granted somewhere else, is tried again.
                let settled = complete && matches!(found.pin, Pin::Map { .. } | Pin::Absent(_));
                return self.set(found, settled);
            }
        }
        let path = dir.path_of(&self.directory);
        let reason = format!("{} is being exchanged all the time", path.display());
        self.set(Found::only(Pin::Unreadable(reason)), false);
    }

    fn set(&mut self, found: Found, settled: bool) {
        if !matches!(found.pin, Pin::Map { .. }) {
            self.release();
        }
        self.found = found;
        self.stale = !settled;
    }

    /// One look at the directory, and whether it will be known when something changes; `None` when it was exchanged
    /// meanwhile.
    fn look(&mut self, root: &Root, parent: &Dir, wants: &impl Fn(MapId) -> bool) -> Option<(Found, bool)> {
        let path = parent.path_of(&self.directory);
        let pin = match parent.find_dir(&self.directory) {
            Ok(Look::Found(dir)) => Ok(dir),
            Ok(Look::Gone) => Err(Pin::Absent(format!("{} does not exist", path.display()))),
            Ok(Look::Other(other)) => {
                Err(Pin::Other(format!("{} is {other}, not a directory", path.display())))
            }
            Err(error) => Err(Pin::Unreadable(root.explain(&error))),
        };
        let dir = match pin {
            Ok(dir) => dir,
            Err(pin) => {
                root.unwatch(self.watched.take());
                self.identity = None;
                return Some((Found::only(pin), root.watched.is_some()));
            }
        };
        // Before anything is looked at: what changes from now on is told.
        let watched = root.watch_directory(&dir);
        if self.watched != watched {
            root.unwatch(self.watched.take());
            self.watched = watched;
        }
        let (record, bad_record) = match record(&dir) {
            Ok(record) => (record, None),
            Err(reason) => (None, Some(reason)),
        };
        let pin = self.open_current(root, &dir, record.as_ref());
        let (pin, retired, all_open) = match self.open_retired(&dir, record.as_ref(), wants) {
            Ok((retired, all_open)) => (pin, retired, all_open),
            // Maps that are there, and whose counts would be taken for lost.
            Err(error) => (Pin::Unreadable(root.explain(&error)), Vec::new(), false),
        };
        let device = record.map(|record| Device { name: record.device, ifindex: record.ifindex });

        let is_same = match (dir.stat_self(), parent.stat(&self.directory)) {
            (Ok(ours), Ok(theirs)) => {
                self.identity = Some((ours.dev, ours.ino));
                (ours.dev, ours.ino) == (theirs.dev, theirs.ino)
            }
            // It was removed: the next look tells.
            _ => false,
        };
        let complete = self.watched.is_some() && all_open;
        is_same.then_some((Found { pin, retired, device, bad_record }, complete))
    }

    fn open_current(&mut self, root: &Root, dir: &Dir, record: Option<&Record>) -> Pin {
        let name = escape::escape(&self.map);
        let path = dir.path_of(&name);
        let map = match dir.find_map(&name, Access::ReadOnly) {
            Ok(Look::Found(map)) => map,
            Ok(Look::Gone) => return Pin::Absent(format!("{} does not exist", path.display())),
            Ok(Look::Other(other)) => return Pin::Other(format!("{} is {other}, not a map", path.display())),
            Err(error) => return Pin::Unreadable(root.explain(&error)),
        };
        if !is_stats_map(map.def()) {
            return Pin::Other(format!("{} is {}, expected {SHAPE}", path.display(), map.def()));
        }
        let id = map.id();
        // Where the record names another map, somebody else pinned this one, and the record says nothing about it.
        let record = record.filter(|record| record.maps.get(&self.map) == Some(&id.0));
        self.hold_current(map);
        Pin::Map {
            generation: record.map(|record| record.generation),
            base: record.and_then(|record| record.base.get(&self.map)).copied().map(MapId),
        }
    }

    /// Opens the wanted retired maps. Returns all of them, wanted or not, and whether each wanted one could be opened: where
    /// one is denied to this user it is not, and any other failure is an error.
    fn open_retired(
        &mut self,
        dir: &Dir,
        record: Option<&Record>,
        wants: &impl Fn(MapId) -> bool,
    ) -> Result<(Vec<Retired>, bool), Error> {
        // A directory that we may search but not list has its current map at least.
        let entries = unless_denied(|| dir.list())?.unwrap_or_default();
        let mut all = Vec::new();
        let mut all_open = true;
        for name in entries.iter().filter_map(|entry| entry.name.to_str()) {
            let Some((map, generation, id)) = retired::parse(name) else { continue };
            if map != self.map {
                continue;
            }
            let map = MapId(id);
            let base = record.and_then(|record| record.base.get(name)).copied().map(MapId);
            all.push(Retired { map, generation, base });
            let mut held = self.current.iter().chain(&self.others);
            if wants(map) && held.all(|held| held.map.id() != map) {
                match unless_denied(|| dir.find_map(name, Access::ReadOnly))? {
                    Some(Look::Found(opened)) if opened.id() == map && is_stats_map(opened.def()) => {
                        self.others.push(Held::new(opened));
                    }
                    _ => all_open = false,
                }
            }
        }
        all.sort_by_key(|retired| (retired.generation, retired.map));
        Ok((all, all_open))
    }

    /// Holds a map as the current one. One that is held already stays as it is.
    fn hold_current(&mut self, map: Map) {
        if self.current.as_ref().is_some_and(|held| held.map.id() == map.id()) {
            return;
        }
        self.release();
        let known = self.others.iter().position(|held| held.map.id() == map.id());
        self.current = Some(known.map_or_else(|| Held::new(map), |known| self.others.swap_remove(known)));
    }
}

impl Held {
    fn new(map: Map) -> Self {
        let reading = Reading { map: map.id(), at: 0, slots: Vec::new() };
        Self { map, reading, failure: None }
    }
}

/// The record in a directory; none in one that somebody else made. The error is what is wrong with it.
fn record(dir: &Dir) -> Result<Option<Record>, String> {
    let path = dir.path_of(OWNER_PIN);
    let text = match unless_denied(|| dir.find_symlink(OWNER_PIN)) {
        Ok(Some(Look::Found(text))) => text,
        // Where it may not be read, the map beside it may not either, and that is told.
        Ok(Some(Look::Gone | Look::Other(_)) | None) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = text.to_str().ok_or_else(|| format!("{}: not UTF-8", path.display()))?;
    Record::parse(text).map(Some).map_err(|error| format!("{}: {error}", path.display()))
}
