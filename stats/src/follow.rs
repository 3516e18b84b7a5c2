//! Following the config: noticing that the file changed, and reading it once it is quiet.
//!
//! An editor that saves in place leaves an empty file for a moment, one that saves atomically exchanges it, and a mounted
//! volume turns a symbolic link somewhere on the way. So the directory is watched, and about every second, without a watch
//! at every tick, the file is compared with what it was: what inotify does not tell is seen a little later.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::pipe::{PipeFlags, pipe_with};
use xdpd_config::{Config, LoadError};
use xdpd_kernel::clock::monotonic_ns;

/// How long nothing must have happened to the file before it is read.
const QUIET: Duration = Duration::from_millis(100);

/// Notices changes of a config.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    /// Held for its callback; `None`: only the comparison at every tick notices changes.
    watcher: Option<RecommendedWatcher>,
    /// Readable when the watcher has seen something.
    told: OwnedFd,
    /// The other end, held so that `told` is not readable for good once the watcher lets go of its own, or has none.
    _tell: OwnedFd,
    seen: Option<Version>,
    /// When the file will have been quiet for long enough; `None`: nothing happened to it.
    due: Option<u64>,
    /// What was wrong with the file when it was last read.
    rejected: Option<String>,
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

/// What has become of the file.
#[derive(Debug)]
pub(crate) enum News {
    /// It says something else, or the same again after it had been rejected.
    Changed(Box<Config>),
    /// It cannot be read or is not valid.
    Rejected(LoadError),
}

impl Follower {
    /// Watches from now on. The file is to be loaded after this: what changes in between is noticed.
    pub(crate) fn new(path: &Path) -> std::io::Result<Self> {
        let (told, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let watcher = watch(path, tell.try_clone()?).ok();
        let (path, seen) = (path.to_owned(), version(path));
        Ok(Self { path, watcher, told, _tell: tell, seen, due: None, rejected: None })
    }

    /// Becomes readable when something happened in the file's directory.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    /// Whether changes are noticed at once, not only at ticks.
    pub(crate) fn is_prompt(&self) -> bool {
        self.watcher.is_some()
    }

    /// When [`Follower::news`] is to be asked next.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due
    }

    /// Something happened in the directory.
    pub(crate) fn notice(&mut self) {
        let mut buffer = [0; 64];
        while rustix::io::read(&self.told, &mut buffer).is_ok_and(|read| read > 0) {}
        self.touch();
    }

    /// Compares the file with what it was.
    pub(crate) fn compare(&mut self) {
        let version = version(&self.path);
        if version != self.seen {
            self.seen = version;
            self.touch();
        }
    }

    fn touch(&mut self) {
        let quiet = u64::try_from(QUIET.as_nanos()).unwrap_or(u64::MAX);
        self.due = Some(monotonic_ns().saturating_add(quiet));
    }

    /// Reads the file, which has been quiet, and compares it with `current`.
    pub(crate) fn news(&mut self, current: &Config) -> Option<News> {
        self.due = None;
        self.seen = version(&self.path);
        match Config::load(&self.path) {
            Ok(config) => {
                let was_rejected = self.rejected.take().is_some();
                (was_rejected || config.sha256 != current.sha256).then(|| News::Changed(Box::new(config)))
            }
            Err(error) => {
                let text = error.to_string();
                let is_new = self.rejected.as_deref() != Some(&text);
                self.rejected = Some(text);
                is_new.then_some(News::Rejected(error))
            }
        }
    }
}

/// Watches the file's directory: an atomic save would leave a watch on the file itself with the old one.
fn watch(path: &Path, tell: OwnedFd) -> notify::Result<RecommendedWatcher> {
    let name: Option<OsString> = path.file_name().map(Into::into);
    let file = path.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !concerns(&event, &file, name.as_ref())) {
            return;
        }
        // A full pipe tells it as well.
        let _ = rustix::io::write(&tell, &[0]);
    })?;
    watcher.watch(path.parent().unwrap_or(Path::new("/")), RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn concerns(event: &notify::Event, file: &Path, name: Option<&OsString>) -> bool {
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    let is_named = event.paths.iter().any(|path| path.file_name() == name.map(OsString::as_os_str));
    // A symbolic link leads to another file when something else in the directory is exchanged.
    is_named || event.need_rescan() || file.symlink_metadata().is_ok_and(|meta| meta.is_symlink())
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
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn wait(follower: &mut Follower) {
        let fd = follower.told.try_clone().unwrap();
        let deadline = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&deadline)), Ok(1));
        follower.notice();
    }

    #[test]
    fn an_atomic_save_is_noticed_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "[interfaces.eth0]\n").unwrap();
        let mut follower = Follower::new(&path).unwrap();
        let config = Config::load(&path).unwrap();
        assert!(follower.due().is_none() && follower.is_prompt());

        std::fs::write(dir.path().join("next"), "[interfaces.eth1]\n").unwrap();
        std::fs::rename(dir.path().join("next"), &path).unwrap();
        wait(&mut follower);
        assert!(follower.due().is_some_and(|due| due > monotonic_ns()));
        assert!(
            matches!(follower.news(&config), Some(News::Changed(config)) if config.interfaces[0].key() == "eth1")
        );
        assert!(follower.due().is_none());
    }

    #[test]
    fn the_same_content_and_the_same_error_are_no_news() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "[interfaces.eth0]\n").unwrap();
        let mut follower = Follower::new(&path).unwrap();
        let config = Config::load(&path).unwrap();
        assert!(follower.news(&config).is_none());

        std::fs::write(&path, "[interfaces.eth0\n").unwrap();
        assert!(matches!(follower.news(&config), Some(News::Rejected(_))));
        assert!(follower.news(&config).is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(follower.news(&config), Some(News::Rejected(LoadError::Read { .. }))));

        std::fs::write(&path, "[interfaces.eth0]\n").unwrap();
        assert!(matches!(follower.news(&config), Some(News::Changed(_))));
        assert!(follower.news(&config).is_none());
    }

    #[test]
    fn a_link_that_is_turned_somewhere_on_the_way_is_noticed() {
        // As mounted volumes do it: config.toml -> data/config.toml, data -> version1.
        let dir = tempfile::tempdir().unwrap();
        for (version, label) in [("version1", "eth0"), ("version2", "eth1")] {
            std::fs::create_dir(dir.path().join(version)).unwrap();
            std::fs::write(dir.path().join(version).join("config.toml"), format!("[interfaces.{label}]\n"))
                .unwrap();
        }
        std::os::unix::fs::symlink("version1", dir.path().join("data")).unwrap();
        let path = dir.path().join("config.toml");
        std::os::unix::fs::symlink("data/config.toml", &path).unwrap();
        let mut follower = Follower::new(&path).unwrap();
        let config = Config::load(&path).unwrap();

        std::os::unix::fs::symlink("version2", dir.path().join("next")).unwrap();
        std::fs::rename(dir.path().join("next"), dir.path().join("data")).unwrap();
        wait(&mut follower);
        assert!(
            matches!(follower.news(&config), Some(News::Changed(config)) if config.interfaces[0].key() == "eth1")
        );
    }

    #[test]
    fn a_change_that_nothing_tells_of_is_seen_by_comparing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "[interfaces.eth0]\n").unwrap();
        let mut follower = Follower::new(&path).unwrap();
        follower.watcher = None;
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&follower.told, PollFlags::IN)], Some(&now)), Ok(0));
        follower.compare();
        assert!(follower.due().is_none());
        std::fs::write(&path, "[interfaces.eth0]\n[interfaces.eth1]\n").unwrap();
        follower.compare();
        assert!(follower.due().is_some());
    }
}
