//! Telling network namespaces apart.

use std::fmt;

/// What tells network namespaces apart while both exist: device and inode number of the namespace file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetNsId {
    /// The device number of nsfs.
    pub dev: u64,
    /// The inode number, as in `net:[4026531840]`.
    pub ino: u64,
}

impl NetNsId {
    /// Whether it is the namespace of this device and inode number.
    pub fn is(self, (dev, ino): (u64, u64)) -> bool {
        (self.dev, self.ino) == (dev, ino)
    }
}

impl fmt::Display for NetNsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dev, self.ino)
    }
}
