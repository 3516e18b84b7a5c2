//! Waiting for descriptors, and writing to one that may not take all, or anything.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{PollFd, Timespec};
use rustix::io::{Errno, Result};

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Something is ready, or the time has come.
    Over,
    /// A signal came.
    Interrupted,
}

/// Waits until one of these is ready, or until `timeout` has passed.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<Wait> {
    match rustix::event::poll(fds, timeout) {
        Ok(_) => Ok(Wait::Over),
        Err(Errno::INTR) => Ok(Wait::Interrupted),
        Err(errno) => Err(errno),
    }
}

/// As [`poll`], with an epoll descriptor: the number of events at the front of `buffer`, none after `timeout`; `None` when a
/// signal came.
pub fn epoll_wait(
    epoll: &OwnedFd,
    buffer: &mut Vec<Event>,
    timeout: Option<&Timespec>,
) -> Result<Option<usize>> {
    match epoll::wait(epoll, rustix::buffer::spare_capacity(buffer), timeout) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Adds a descriptor to those that an epoll descriptor waits for; false for a file, which is always ready and is not
/// waited for: `epoll_ctl` has `EPERM` for nothing else.
pub fn epoll_add(epoll: &OwnedFd, fd: BorrowedFd<'_>, id: u64, flags: EventFlags) -> Result<bool> {
    match epoll::add(epoll, fd, EventData::new_u64(id), flags) {
        Ok(()) => Ok(true),
        Err(Errno::PERM) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// What became of bytes that were to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// So many were taken.
    Bytes(usize),
    /// There is no room for any just now.
    Full,
    /// Nobody reads any more.
    Closed,
}

/// Writes once, without waiting where the descriptor does not.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> Result<Written> {
    match rustix::io::retry_on_intr(|| rustix::io::write(&fd, bytes)) {
        Ok(count) => Ok(Written::Bytes(count)),
        Err(Errno::AGAIN) => Ok(Written::Full),
        Err(Errno::PIPE) => Ok(Written::Closed),
        Err(errno) => Err(errno),
    }
}
