//! Network namespaces: naming them, telling them apart, and working in one.
//!
//! A thread is in one network namespace. Nothing here moves the thread that asks.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Error, Result};
use crate::stat::Stat;
use crate::sys;

/// Where `ip netns add` keeps the names of namespaces.
pub const NAMED_DIR: &str = "/run/netns";

const CURRENT: &CStr = c"/proc/thread-self/ns/net";

/// What tells network namespaces apart while both exist: device and inode number of the namespace file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetNsId {
    /// The device number of nsfs.
    pub dev: u64,
    /// The inode number, as in `net:[4026531840]`.
    pub ino: u64,
}

impl fmt::Display for NetNsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dev, self.ino)
    }
}

/// An open network namespace, which keeps it alive.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
    id: NetNsId,
    path: PathBuf,
}

impl NetNs {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::open_path(OsStr::from_bytes(CURRENT.to_bytes()).into())
    }

    /// Opens a namespace: a path when `name` holds a slash, else a name under [`NAMED_DIR`].
    ///
    /// `ENOENT` when there is none; `EINVAL` when there is something else.
    pub fn open(name: impl AsRef<Path>) -> Result<Self> {
        let name = name.as_ref();
        let is_path = name.as_os_str().as_encoded_bytes().contains(&b'/');
        Self::open_path(if is_path { name.to_owned() } else { Path::new(NAMED_DIR).join(name) })
    }

    fn open_path(path: PathBuf) -> Result<Self> {
        let object = || path.to_string_lossy().into_owned();
        // Not to be held up by a FIFO or a device that bears the name.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| Error::new("open", object(), errno))?;
        if sys::namespace_type(fd.as_fd()).ok() != Some(libc::CLONE_NEWNET) {
            return Err(Error::invalid("open", object(), "not a network namespace"));
        }
        let stat = Stat::at(&fd, c"").map_err(|errno| Error::new("statx", object(), errno))?;
        Ok(Self { fd, id: NetNsId { dev: stat.dev, ino: stat.ino }, path })
    }

    /// What tells it apart from other namespaces.
    pub fn identity(&self) -> NetNsId {
        self.id
    }

    /// The path under which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the calling thread is in it.
    pub fn is_current(&self) -> Result<bool> {
        let stat =
            Stat::of(CURRENT).map_err(|errno| Error::new("statx", CURRENT.to_string_lossy(), errno))?;
        Ok((self.id.dev, self.id.ino) == stat.identity())
    }

    /// Runs `work` in the namespace: on the calling thread when that is in it, else on a thread that lives for this
    /// call. Needs `CAP_SYS_ADMIN` in the latter case. What `work` opens (sockets, links) stays of that namespace.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R> {
        if self.is_current()? {
            return Ok(work());
        }
        let object = || self.path.to_string_lossy().into_owned();
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || {
                    move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))?;
                    Ok::<R, Errno>(work())
                })
                .map_err(|source| Error::new("clone", object(), source))?;
            match worker.join() {
                Ok(answer) => answer.map_err(|errno| Error::new("setns", object(), errno)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
