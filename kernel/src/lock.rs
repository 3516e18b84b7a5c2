//! One holder at a time: flock(2) on a directory.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::kind::EntryKind;
use crate::look::Look;
use crate::pin::Dir;
use crate::stat::Stat;

/// A lock that is held until this is dropped, or the process ends, however it ends.
#[derive(Debug)]
#[must_use = "a lock that is dropped is let go"]
pub struct Lock {
    fd: OwnedFd,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it to a child that was forked and has not come to exec yet. There is nobody to tell
        // about an error, and the end of the process unlocks in any case.
        _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, in our pid namespace.
    pub pid: u32,
    /// Its name, 15 bytes at most.
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

/// What became of an attempt to take a lock.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours.
    Taken(Lock),
    /// Somebody else has it.
    Busy,
    /// There is no such directory.
    Gone,
}

impl Attempt {
    /// The lock, if it is ours.
    pub fn taken(self) -> Option<Lock> {
        match self {
            Self::Taken(lock) => Some(lock),
            Self::Busy | Self::Gone => None,
        }
    }
}

/// How often a lock is taken anew because the directory was replaced meanwhile.
const ATTEMPTS: u32 = 16;

impl Dir {
    /// Tries to take the lock on the directory `name` without waiting.
    ///
    /// The lock is on a directory, not on a name: when the name leads elsewhere once it is ours, it is let go and taken
    /// again.
    pub fn try_lock(&self, name: impl AsRef<OsStr>) -> Result<Attempt> {
        let name = self.checked_name("flock", name.as_ref())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(self, &name, flags, Mode::empty());
        for _ in 0..ATTEMPTS {
            let fd = match self.agree("openat", &name, &[EntryKind::Dir], open)? {
                Look::Found(fd) => fd,
                Look::Gone => return Ok(Attempt::Gone),
                Look::Other(_) => return Err(self.error("openat", &name, Errno::NOTDIR)),
            };
            match rustix::io::retry_on_intr(|| {
                rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)
            }) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(Attempt::Busy),
                Err(errno) => return Err(self.error("flock", &name, errno)),
            }
            let locked = Stat::at(&fd, c"").map_err(|errno| self.error("statx", &name, errno))?;
            let named = self.find_stat(OsStr::from_bytes(name.to_bytes()))?;
            if named.is_some_and(|named| locked.identity() == named.identity()) {
                return Ok(Attempt::Taken(Lock { fd }));
            }
        }
        Err(self.error("flock", &name, Errno::AGAIN))
    }

    /// The processes that hold the lock on the directory `name`, as far as our pid namespace shows them; nobody does where
    /// there is none.
    ///
    /// Not one that has ended: the kernel goes on naming the process that took the lock while a child of it, which was
    /// forked and has not come to exec yet, still has it.
    pub fn lock_holders(&self, name: impl AsRef<OsStr>) -> Result<Vec<Holder>> {
        let Some(stat) = self.find_stat(name)? else { return Ok(Vec::new()) };
        let file = (rustix::fs::major(stat.dev), rustix::fs::minor(stat.dev), stat.ino);
        for _ in 0..LOOKS {
            let locks = Locks::read().map_err(|source| Error::new("read", LOCKS, source))?;
            let holders = pids(&locks.text, file).filter_map(|pid| {
                let command = match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
                    Ok(command) => command.trim_end().to_owned(),
                    Err(_) if matches!(std::fs::exists(format!("/proc/{pid}")), Ok(false)) => return None,
                    // It is there, and its name cannot be told.
                    Err(_) => "a process".to_owned(),
                };
                Some(Holder { pid, command })
            });
            let holders: Vec<_> = holders.collect();
            if !holders.is_empty() || locks.at_once {
                return Ok(holders);
            }
        }
        Ok(Vec::new())
    }
}

const LOCKS: &str = "/proc/locks";

/// How often `LOCKS` is read when it does not show a holder and took more than one call.
const LOOKS: u32 = 16;

/// What `LOCKS` shows.
struct Locks {
    text: String,
    /// It came with one call of read(2), and so shows all that there were at one moment. It is a page at most that does.
    ///
    /// At the next call the kernel goes on at the n-th lock that there is by then (fs/locks.c, `locks_start`), so that a lock
    /// which is let go in between hides another one.
    at_once: bool,
}

impl Locks {
    fn read() -> io::Result<Self> {
        let mut file = File::open(LOCKS)?;
        let (mut text, mut buffer, mut calls) = (Vec::new(), vec![0; 1 << 16], 0);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => text.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            calls += 1;
        }
        Ok(Self { text: String::from_utf8_lossy(&text).into_owned(), at_once: calls <= 1 })
    }
}

/// The pids in /proc/locks that hold a flock on a file, given as major and minor device number and inode.
///
/// A line is `1: FLOCK  ADVISORY  WRITE 1234 00:1b:5678 0 EOF`; one that waits has `->` after its number.
fn pids(locks: &str, file: (u32, u32, u64)) -> impl Iterator<Item = u32> {
    locks.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next()? != "FLOCK" {
            return None;
        }
        let mut words = words.skip(2);
        let pid = words.next()?.parse().ok()?;
        let mut parts = words.next()?.splitn(3, ':');
        let major = u32::from_str_radix(parts.next()?, 16).ok()?;
        let minor = u32::from_str_radix(parts.next()?, 16).ok()?;
        let ino = parts.next()?.parse().ok()?;
        ((major, minor, ino) == file).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_among_other_locks_and_waiters() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:1b:5678 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 00:1c:5678 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 00:1b:5678 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 14 00:1b:5678 0 EOF\n\
                     4: OFDLCK ADVISORY  READ -1 00:06:1031 0 EOF\n\
                     \n\
                     5: FLOCK nonsense\n";
        assert_eq!(pids(locks, (0, 0x1b, 5678)).collect::<Vec<_>>(), [13]);
        assert_eq!(pids(locks, (0, 0x1b, 1)).count(), 0);
    }
}
