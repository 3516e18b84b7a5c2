//! How many files this process may have open: every BPF object that it holds takes a descriptor.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use crate::error::{Error, Result};

/// Raises the limit of open files as far as that takes no privilege.
///
/// What services and shells are given, 1024, is for programs that use select(2).
pub fn raise_limit() -> Result<()> {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .map_err(|errno| Error::new("setrlimit", "RLIMIT_NOFILE", errno))
}

/// How many more files this process may open, give or take what it has open above a gap in their numbers. Tells it by
/// the number that the next one gets, for which it needs one that is open.
pub fn room(open: impl AsFd) -> Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    match rustix::io::fcntl_dupfd_cloexec(open, 0) {
        Ok(next) => Ok(limit.saturating_sub(next.as_raw_fd().unsigned_abs().into())),
        Err(Errno::MFILE) => Ok(0),
        Err(errno) => Err(Error::new("fcntl(F_DUPFD_CLOEXEC)", "a file", errno)),
    }
}
