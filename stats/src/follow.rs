//! Following the config: noticing that the file changed, and reading it once it is quiet.
//!
//! About every second, and where changes cannot be told at every tick, the file is compared with what it was: what
//! inotify does not tell is seen a little later.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use xdpd_config::follow::{FileWatch, QUIET};
use xdpd_config::{Config, LoadError};
use xdpd_kernel::clock::monotonic_ns;

/// Notices changes of a config.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    watch: FileWatch,
    /// When the file will have been quiet for long enough; `None`: nothing happened to it.
    due: Option<u64>,
    /// What was wrong with the file when it was last read.
    rejected: Option<String>,
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
        let mut watch = FileWatch::new()?;
        watch.follow([path.to_owned()]);
        Ok(Self { path: path.to_owned(), watch, due: None, rejected: None })
    }

    /// Becomes readable when something may have happened to the file.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.watch.descriptor()
    }

    /// Whether changes are noticed at once, not only at ticks.
    pub(crate) fn is_prompt(&self) -> bool {
        self.watch.is_prompt()
    }

    /// When [`Follower::news`] is to be asked next.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due
    }

    /// Something may have happened to the file.
    pub(crate) fn notice(&mut self) {
        self.watch.take_in();
        self.touch();
    }

    /// Compares the file with what it was.
    pub(crate) fn compare(&mut self) {
        if self.watch.changed() {
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
        self.watch.changed();
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

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn wait(follower: &mut Follower) {
        let deadline = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(
            poll(&mut [PollFd::from_borrowed_fd(follower.descriptor(), PollFlags::IN)], Some(&deadline)),
            Ok(1)
        );
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
}
