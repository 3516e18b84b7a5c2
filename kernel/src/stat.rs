//! What file systems tell about an entry.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::kind::EntryKind;
use crate::look::ATTEMPTS;

/// A point in time as file systems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970.
    pub sec: i64,
    /// Nanoseconds of the second.
    pub nsec: u32,
}

/// What is known about a directory entry or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: EntryKind,
    /// The device number of its file system.
    pub dev: u64,
    /// Its inode number. A pin made anew has another one; names linked to the same pin share it.
    pub ino: u64,
    /// Its permission bits, `0o7777` at most.
    pub mode: u32,
    /// The user who owns it.
    pub uid: u32,
    /// The group that owns it.
    pub gid: u32,
    /// When its inode last changed.
    pub ctime: Timestamp,
    /// When its content last changed; for directories: when an entry was made, removed or renamed.
    pub mtime: Timestamp,
    /// How many names it has; a directory that was removed has none.
    links: u32,
}

impl Stat {
    /// What is known about what a path leads to, symbolic links followed; `None` when there is nothing.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        let error = |call, errno| Error::new(call, path.to_string_lossy(), errno);
        let absent = |errno| matches!(errno, Errno::NOENT | Errno::NOTDIR);
        for _ in 0..ATTEMPTS {
            match Self::query(rustix::fs::CWD, path, AtFlags::empty()) {
                Ok(stat) => return Ok(Some(stat)),
                Err(errno) if absent(errno) => {}
                Err(errno) => return Err(error("statx", errno)),
            }
            // A call of another kind has to say the same.
            match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                Ok(_) => {}
                Err(errno) if absent(errno) => return Ok(None),
                Err(errno) => return Err(error("open", errno)),
            }
        }
        Err(error("statx", Errno::NOENT))
    }

    /// statx(2) of an entry of a directory, a symbolic link itself; of the descriptor itself when `name` is empty.
    pub(crate) fn at(dir: impl AsFd, name: &CStr) -> rustix::io::Result<Self> {
        let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
        Self::query(dir, name, flags)
    }

    /// statx(2) of what a path names, a symbolic link itself.
    pub(crate) fn named(path: &Path) -> rustix::io::Result<Self> {
        Self::query(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// statx(2) of what a path leads to.
    pub(crate) fn of(path: &CStr) -> rustix::io::Result<Self> {
        Self::query(rustix::fs::CWD, path, AtFlags::empty())
    }

    fn query(dir: impl AsFd, name: impl rustix::path::Arg, flags: AtFlags) -> rustix::io::Result<Self> {
        let stat = rustix::fs::statx(dir, name, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)?;
        let raw_mode = u32::from(stat.stx_mode);
        Ok(Self {
            kind: FileType::from_raw_mode(raw_mode).into(),
            dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            mode: Mode::from_raw_mode(raw_mode).bits(),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            ctime: stat.stx_ctime.into(),
            mtime: stat.stx_mtime.into(),
            links: stat.stx_nlink,
        })
    }

    /// Whether it was removed, and lives on only for those that have it open.
    pub(crate) fn is_removed(&self) -> bool {
        self.links == 0
    }

    /// What tells an inode apart from all others that exist: device and inode number.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }
}

impl From<StatxTimestamp> for Timestamp {
    fn from(time: StatxTimestamp) -> Self {
        Self { sec: time.tv_sec, nsec: time.tv_nsec }
    }
}
