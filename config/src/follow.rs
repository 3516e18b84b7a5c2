//! Noticing that files changed: the config, and what it names.
//!
//! An editor that saves in place leaves an empty file for a moment, one that saves atomically exchanges it, and a
//! mounted volume turns a symbolic link somewhere on the way. So directories are watched, and where nothing can be, or
//! nothing was told, the metadata of a file shows a little later that it is another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// The same files, for the watcher's thread.
    files: Arc<Mutex<Vec<PathBuf>>>,
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
        let files: Arc<Mutex<Vec<PathBuf>>> = Arc::default();
        let followed = Arc::clone(&files);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let files = followed.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|event| !concerns(&event, &files)) {
                return;
            }
            // A full pipe tells it as well.
            let _ = rustix::io::write(&tell, &[0]);
        });
        let (versions, directories) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { watcher: watcher.ok(), told, _tell: held, versions, files, directories })
    }

    /// Watches these files from now on, and no others. What changes after this call is noticed, so read them after it.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut known = std::mem::take(&mut self.versions);
        for file in files {
            let version = known.remove(&file).unwrap_or_else(|| version(&file));
            self.versions.insert(file, version);
        }
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = self.versions.keys().cloned().collect();
        // A watch on the file itself would stay with the old one when it is exchanged.
        let directories: BTreeSet<PathBuf> =
            self.versions.keys().map(|file| directory(file).to_owned()).collect();
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

    /// Whether changes are told, and need not be asked for.
    pub fn is_prompt(&self) -> bool {
        self.versions.keys().all(|file| self.directories.contains(directory(file)))
    }

    /// Becomes readable when something may have happened to one of the files; [`FileWatch::take_in`] makes it unreadable
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

fn directory(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

fn concerns(event: &notify::Event, files: &[PathBuf]) -> bool {
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    let is_named = |file: &PathBuf| event.paths.iter().any(|path| path.file_name() == file.file_name());
    // A symbolic link leads to another file when something else in the directory is exchanged.
    let is_link = |file: &PathBuf| file.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    event.need_rescan() || files.iter().any(|file| is_named(file) || is_link(file))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_told(watch: &FileWatch, within: Duration) -> bool {
        let within = Timespec::try_from(within).unwrap();
        let mut fds = [PollFd::from_borrowed_fd(watch.descriptor(), PollFlags::IN)];
        poll(&mut fds, Some(&within)).unwrap() > 0
    }

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn each_file_that_is_followed_is_told_of_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, other] = ["a", "b", "other"].map(|name| dir.path().join(name));
        fs::write(&a, "1").unwrap();
        let mut watch = FileWatch::new().unwrap();
        watch.follow([a.clone(), b.clone()]);
        assert!(watch.is_prompt() && !watch.changed() && !is_told(&watch, SOON));

        fs::write(&other, "1").unwrap();
        assert!(!is_told(&watch, SOON) && !watch.changed());
        // One that was not there yet.
        fs::write(&b, "1").unwrap();
        assert!(is_told(&watch, LONG) && watch.changed());
        fs::rename(&other, &a).unwrap();
        assert!(is_told(&watch, LONG) && watch.changed());

        let mut watch = FileWatch::new().unwrap();
        watch.follow([a.clone(), b.clone()]);
        watch.follow([b]);
        fs::remove_file(&a).unwrap();
        assert!(!is_told(&watch, SOON) && !watch.changed());
    }

    #[test]
    fn a_change_that_nothing_tells_of_is_found_by_asking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "1").unwrap();
        let mut watch = FileWatch::new().unwrap();
        watch.watcher = None;
        watch.follow([path.clone()]);
        assert!(!watch.is_prompt() && !is_told(&watch, Duration::ZERO) && !watch.changed());
        fs::write(&path, "12").unwrap();
        assert!(watch.changed() && !watch.changed());
        fs::remove_file(&path).unwrap();
        assert!(watch.changed());
    }
}
