//! The pin root, and what changes in it.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use xdpd_config::Label;
use xdpd_kernel::watch::{ReadFlags, Watch, WatchFlags, WatchId};
use xdpd_kernel::{Dir, Error, Look, bpffs};

use crate::denied;

/// The directory that holds the pin directories of all interfaces.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    pub(super) state: RootState,
    /// Device and inode of what the path named when it was last looked at.
    seen: Option<(u64, u64)>,
    watch: Option<Watch>,
    pub(super) watched: Option<WatchId>,
    suspect: bool,
    /// Why its entries cannot be listed, which only patterns need.
    unlisted: Option<String>,
}

#[derive(Debug)]
pub(super) enum RootState {
    Open(Dir),
    /// There is no place where pins could be, and why.
    Missing(String),
    Unreadable(String),
}

/// What changed under the pin root since the last look.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Anything may have.
    pub(crate) all: bool,
    /// These entries of the pin root.
    pub(crate) entries: Vec<OsString>,
    /// Something in these directories.
    pub(crate) directories: Vec<WatchId>,
}

impl Root {
    /// The root of a config; what is there is seen at the first [`Root::changes`].
    pub(crate) fn new(path: PathBuf) -> Self {
        let state = RootState::Missing(String::new());
        Self {
            path,
            state,
            seen: None,
            watch: Watch::new().ok(),
            watched: None,
            suspect: true,
            unlisted: None,
        }
    }

    /// Becomes readable when there is something to tell.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// What changed since the last call. `told`: the descriptor is readable.
    pub(crate) fn changes(&mut self, told: bool) -> Changes {
        let mut changes = Changes::default();
        if told {
            self.drain(&mut changes);
        }
        let was_open = matches!(self.state, RootState::Open(_));
        if std::mem::take(&mut self.suspect) || !was_open || self.watched.is_none() {
            let identity = std::fs::symlink_metadata(&self.path).map(|meta| (meta.dev(), meta.ino())).ok();
            if identity != self.seen || !was_open {
                self.open();
                self.seen = identity;
                changes.all = was_open || matches!(self.state, RootState::Open(_));
            } else if self.watched.is_none()
                && let RootState::Open(dir) = &self.state
            {
                // Watches may be left by now. What happened until then was not told.
                self.watched = self.watch_directory(dir);
                changes.all = true;
            }
        }
        changes.all |= self.watched.is_none();
        changes
    }

    /// The path may name another directory by now, without anything having told of it.
    pub(crate) fn suspect(&mut self) {
        self.suspect = true;
    }

    fn open(&mut self) {
        if let (Some(watch), Some(id)) = (&self.watch, self.watched.take()) {
            // Gone with its directory, mostly.
            let _ = watch.remove(id);
        }
        self.state = match Dir::find(&self.path) {
            Ok(Look::Gone) => RootState::Missing(self.absence()),
            Ok(Look::Other(other)) => {
                RootState::Unreadable(format!("{} is {other}, not a directory", self.path.display()))
            }
            Err(error) => RootState::Unreadable(self.explain(&error)),
            Ok(Look::Found(dir)) => match dir.is_bpffs() {
                Ok(true) => RootState::Open(dir),
                Ok(false) => RootState::Missing(format!("{} is on no bpffs", self.path.display())),
                Err(error) => RootState::Unreadable(error.to_string()),
            },
        };
        if let RootState::Open(dir) = &self.state {
            self.watched = self.watch_directory(dir);
        }
    }

    /// Why the root does not exist.
    fn absence(&self) -> String {
        let path = self.path.display();
        match self.path.ancestors().skip(1).find(|ancestor| ancestor.exists()) {
            Some(ancestor) if !bpffs::is_bpffs(ancestor).unwrap_or(true) => {
                format!("{path} does not exist, and no bpffs is mounted at {}", ancestor.display())
            }
            _ => format!("{path} does not exist"),
        }
    }

    /// Watches a directory: the one that is open, whatever its path names by now.
    pub(super) fn watch_directory(&self, dir: &Dir) -> Option<WatchId> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        self.watch.as_ref()?.add(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()), flags).ok()
    }

    pub(super) fn unwatch(&self, id: Option<WatchId>) {
        if let (Some(watch), Some(id)) = (&self.watch, id) {
            let _ = watch.remove(id);
        }
    }

    fn drain(&mut self, changes: &mut Changes) {
        let Some(events) = self.watch.as_ref().map(Watch::drain) else { return };
        let Ok(events) = events else {
            self.watch = None;
            self.watched = None;
            return;
        };
        for event in events {
            match event.id {
                // Events were lost.
                None => changes.all = true,
                Some(id) if Some(id) == self.watched => {
                    self.suspect |= event.name.is_none();
                    if event.flags.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
                        self.watched = None;
                    }
                    changes.entries.extend(event.name);
                }
                Some(id) => changes.directories.push(id),
            }
        }
    }

    pub(super) fn explain(&self, error: &Error) -> String {
        denied::explain(error, &self.path)
    }

    /// Why not all can be seen that is pinned here, when that is not a matter of time alone.
    pub(crate) fn trouble(&self) -> Option<&str> {
        match &self.state {
            RootState::Open(_) => self.unlisted.as_deref(),
            RootState::Missing(reason) | RootState::Unreadable(reason) => Some(reason),
        }
    }

    /// The labels that have a directory, in the order of their names.
    pub(crate) fn labels(&mut self) -> Vec<Label> {
        let RootState::Open(dir) = &self.state else { return Vec::new() };
        let listed = dir.list();
        self.unlisted = listed.as_ref().err().map(|error| self.explain(error));
        let entries = listed.unwrap_or_default();
        entries.iter().filter_map(|entry| Label::from_file_name(entry.name.to_str()?)).collect()
    }
}
