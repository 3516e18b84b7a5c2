//! Network namespaces: naming them, telling them apart, and working in one.
//!
//! A thread is in one network namespace. Nothing here moves the thread that asks.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, StatFs};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use xdpd_types::NetNsId;

use crate::error::{Error, Result};
use crate::look::ATTEMPTS;
use crate::stat::Stat;
use crate::sys;
use crate::uapi::NSFS_MAGIC;

/// Where `ip netns add` keeps the names of namespaces.
pub const NAMED_DIR: &str = "/run/netns";

const CURRENT: &CStr = c"/proc/thread-self/ns/net";

/// What a look for a namespace finds.
#[derive(Debug)]
pub enum Entrance {
    /// It can be entered.
    Open(NetNs),
    /// There is none, or what is there is none; the error says which.
    Absent(Error),
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

    /// Opens a namespace that must exist, by its name or path as for [`find`](Self::find).
    pub fn open(name: impl AsRef<Path>) -> Result<Self> {
        match Self::find(name)? {
            Entrance::Open(netns) => Ok(netns),
            Entrance::Absent(error) => Err(error),
        }
    }

    /// Looks for a namespace: a path when `name` holds a slash, else a name under [`NAMED_DIR`].
    pub fn find(name: impl AsRef<Path>) -> Result<Entrance> {
        let name = name.as_ref();
        let is_path = name.as_os_str().as_encoded_bytes().contains(&b'/');
        Self::find_path(if is_path { name.to_owned() } else { Path::new(NAMED_DIR).join(name) })
    }

    fn open_path(path: PathBuf) -> Result<Self> {
        match Self::find_path(path)? {
            Entrance::Open(netns) => Ok(netns),
            Entrance::Absent(error) => Err(error),
        }
    }

    fn find_path(path: PathBuf) -> Result<Entrance> {
        let error = |call, errno: Errno| Error::new(call, path.to_string_lossy(), errno);
        // Not to be held up by a FIFO or a device that bears the name.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&path, flags, Mode::empty());
        let mut opened = open();
        for _ in 0..ATTEMPTS {
            let Err(absent @ (Errno::NOENT | Errno::NOTDIR)) = opened else { break };
            // A call of another kind has to say the same.
            match rustix::fs::stat(&path) {
                Err(errno) if errno == absent => return Ok(Entrance::Absent(error("open", absent))),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(error("stat", errno)),
            }
            opened = open();
        }
        let fd = opened.map_err(|errno| error("open", errno))?;
        let fs = rustix::fs::fstatfs(&fd).map_err(|errno| error("fstatfs", errno))?;
        let kind = has_magic(&fs)
            .then(|| sys::namespace_type(fd.as_fd()))
            .transpose()
            .map_err(|source| Error::new("ioctl(NS_GET_NSTYPE)", path.to_string_lossy(), source))?;
        if kind != Some(libc::CLONE_NEWNET) {
            let what = Error::invalid("open", path.to_string_lossy(), "not a network namespace");
            return Ok(Entrance::Absent(what));
        }
        let stat = Stat::at(&fd, c"").map_err(|errno| error("statx", errno))?;
        Ok(Entrance::Open(Self { fd, id: NetNsId { dev: stat.dev, ino: stat.ino }, path }))
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

// The field's type differs between architectures; the number is a 32-bit one everywhere.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
fn has_magic(fs: &StatFs) -> bool {
    fs.f_type as u32 == NSFS_MAGIC
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
