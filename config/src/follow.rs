//! Noticing that files changed: the config, and what it names.
//!
//! An editor that saves in place leaves an empty file for a moment, one that saves atomically exchanges it, and a mounted
//! volume turns a symbolic link somewhere on the way. So directories are watched, and what tells a change is the file's
//! metadata: that is also how a change is found, a little later, where nothing can be watched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::pipe::{PipeFlags, pipe_with};

/// How long nothing must have happened to a file before it is read: an editor may be in the middle of saving it.
pub const QUIET: Duration = Duration::from_millis(100);

/// Notices changes of a set of files.
#[derive(Debug)]
pub struct FileWatch {
    /// Held for its callback; `None`: nothing is told, and only [`FileWatch::changed`] finds changes.
    watcher: Option<RecommendedWatcher>,
    /// Readable when the watcher has seen something.
    told: OwnedFd,
    /// The other end, held so that `told` is not readable for good once the watcher lets go of its own, or has none.
    _tell: OwnedFd,
    versions: BTreeMap<PathBuf, Option<Version>>,
    directories: BTreeSet<PathBuf>,
}

/// What tells versions of a file apart without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    dev: u64,
    ino: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileWatch {
    /// Watches nothing yet. Where the kernel has no room for another watcher, that is no error: changes are then found
    /// by asking.
    pub fn new() -> std::io::Result<Self> {
        let (told, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let held = tell.try_clone()?;
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                // A full pipe tells it as well.
                let _ = rustix::io::write(&tell, &[0]);
            }
        });
        let (versions, directories) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { watcher: watcher.ok(), told, _tell: held, versions, directories })
    }

    /// Watches these files from now on, and no others. What changes after this call is noticed, so read them after it.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut known = std::mem::take(&mut self.versions);
        for file in files {
            let version = known.remove(&file).unwrap_or_else(|| version(&file));
            self.versions.insert(file, version);
        }
        // A watch on the file itself would stay with the old one when it is exchanged.
        let directories: BTreeSet<PathBuf> =
            self.versions.keys().map(|file| file.parent().unwrap_or(Path::new("/")).to_owned()).collect();
        if let Some(watcher) = &mut self.watcher {
            for gone in self.directories.difference(&directories) {
                let _ = watcher.unwatch(gone);
            }
            self.directories.retain(|directory| directories.contains(directory));
            for new in directories {
                if !self.directories.contains(&new)
                    && watcher.watch(&new, RecursiveMode::NonRecursive).is_ok()
                {
                    self.directories.insert(new);
                }
            }
        }
    }

    /// Becomes readable when something happened beside one of the files; [`FileWatch::take_in`] makes it unreadable
    /// again.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    /// Takes in what was told.
    pub fn take_in(&self) {
        let mut buffer = [0; 64];
        while rustix::io::read(&self.told, &mut buffer).is_ok_and(|read| read > 0) {}
    }

    /// Whether one of the files is another than at the last call.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (file, seen) in &mut self.versions {
            let now = version(file);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

/// The version of the file that the path leads to; `None` when there is none.
fn version(path: &Path) -> Option<Version> {
    path.metadata().ok().map(|meta: Metadata| Version {
        dev: meta.dev(),
        ino: meta.ino(),
        len: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}
