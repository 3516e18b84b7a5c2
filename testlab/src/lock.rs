//! One lock for the machine: many labs together, or one alone.

use std::fs::File;
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

/// Held by every lab; released on drop, and by the kernel when the process dies.
///
/// Kernel objects are counted machine-wide, so the lock is too: it lies in `/run/lock`, not in a build
/// directory.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Beside other labs. Waits while a test runs alone.
    pub fn shared() -> Self {
        Self::take(FlockOperation::LockShared)
    }

    /// Without any other lab on this machine. Waits for those that are there.
    ///
    /// A test that already holds a lab would wait for itself: it makes that lab with [`crate::Lab::alone`].
    pub fn alone() -> Self {
        Self::take(FlockOperation::LockExclusive)
    }

    fn take(operation: FlockOperation) -> Self {
        let system = Path::new("/run/lock");
        let dir = if system.is_dir() { system.to_owned() } else { std::env::temp_dir() };
        let path = dir.join("xdpd-testlab.lock");
        // The directory is everybody's: no link that somebody laid there is followed.
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR)
            .unwrap_or_else(|errno| panic!("cannot open {}: {errno}", path.display()));
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Self { _file: file.into() },
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => panic!("cannot lock {}: {errno}", path.display()),
            }
        }
    }
}
