//! Being told of changes in directories: inotify(7).
//!
//! On bpffs it tells of pins, directories and symbolic links that are made, renamed, removed or given other
//! permissions; not of what happens in a map.

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::inotify;
use rustix::io::Errno;

use crate::error::{Error, Result};

/// What to be told of.
pub use rustix::fs::inotify::WatchFlags;

/// What happened.
pub use rustix::fs::inotify::ReadFlags;

/// A watched path, unique within its [`Watch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(i32);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// Where; `None` when events were lost ([`ReadFlags::QUEUE_OVERFLOW`]).
    pub id: Option<WatchId>,
    /// What.
    pub flags: ReadFlags,
    /// To which entry of a directory; `None` when to the directory itself.
    pub name: Option<OsString>,
}

/// Watches paths. Its descriptor becomes readable when there is something to [`drain`](Self::drain).
#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)
            .map_err(|errno| Error::new("inotify_init1", "inotify", errno))?;
        Ok(Self { fd })
    }

    /// Watches a path: the inode that it names now, wherever that is moved. Adding it again replaces the flags.
    ///
    /// Needs read permission. `ENOENT` when there is none; `ENOSPC` at the limit of
    /// `fs.inotify.max_user_watches`.
    pub fn add(&self, path: impl AsRef<Path>, flags: WatchFlags) -> Result<WatchId> {
        let path = path.as_ref();
        inotify::add_watch(&self.fd, path, flags)
            .map(WatchId)
            .map_err(|errno| Error::new("inotify_add_watch", path.to_string_lossy(), errno))
    }

    /// Stops watching. One whose inode is gone was stopped by the kernel already: `EINVAL`.
    pub fn remove(&self, id: WatchId) -> Result<()> {
        inotify::remove_watch(&self.fd, id.0)
            .map_err(|errno| Error::new("inotify_rm_watch", format!("watch {}", id.0), errno))
    }

    /// All that happened since the last call; never waits.
    pub fn drain(&self) -> Result<Vec<WatchEvent>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => events.push(WatchEvent {
                    id: (event.wd() >= 0).then_some(WatchId(event.wd())),
                    flags: event.events(),
                    name: event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec())),
                }),
                Err(Errno::WOULDBLOCK) => return Ok(events),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::new("read", "inotify", errno)),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
