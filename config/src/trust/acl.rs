//! POSIX ACLs, in the form in which the kernel hands them out.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{getxattr, listxattr};

/// The extended attribute that holds an ACL.
const NAME: &str = "system.posix_acl_access";
/// The most bytes of an extended attribute, and of the names of all of a file (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MOST_BYTES: usize = 1 << 16;
/// `POSIX_ACL_XATTR_VERSION` of `include/uapi/linux/posix_acl_xattr.h`, which defines the format.
const VERSION: u32 = 2;

/// What an ACL says beyond the mode of its file. The bits that the mode has for the group are its mask: no more than
/// those are effective of the rights in here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acl {
    /// The rights of the group that owns the file, as in the digit of a mode.
    pub owning_group: u32,
    /// The rights of those that it names.
    pub named: Vec<(Subject, u32)>,
}

/// Whom an entry of an ACL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A user.
    User(u32),
    /// A group.
    Group(u32),
}

impl Acl {
    /// Of a file or directory that is open, maybe only as a place (`O_PATH`); `None`: it has none, or lies on a file
    /// system without.
    pub(super) fn of(fd: &OwnedFd) -> io::Result<Option<Self>> {
        // Calls with a descriptor refuse one of a place.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let mut buffer = vec![0; MOST_BYTES];
        // Where a name is missing is certain; an error of getxattr(2) would have to be guessed at.
        let len = match listxattr(&path, &mut *buffer).map_err(io::Error::from) {
            Ok(len) => len,
            Err(e) if e.kind() == io::ErrorKind::Unsupported => return Ok(None),
            Err(e) => return Err(e),
        };
        if !buffer[..len].split(|byte| *byte == 0).any(|name| name == NAME.as_bytes()) {
            return Ok(None);
        }
        let len = getxattr(&path, NAME, &mut *buffer)?;
        let unknown = || io::Error::other("its ACL has a format that is not known");
        Self::parse(&buffer[..len]).ok_or_else(unknown).map(Some)
    }

    /// All numbers are little-endian: the version, then tag, rights and id of each entry.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first_chunk()?;
        let (entries, []) = entries.as_chunks::<8>() else { return None };
        if u32::from_le_bytes(*version) != VERSION {
            return None;
        }
        let mut acl = Self::default();
        for [t0, t1, r0, r1, id @ ..] in entries {
            let (rights, id) = (u32::from(u16::from_le_bytes([*r0, *r1])), u32::from_le_bytes(*id));
            match u16::from_le_bytes([*t0, *t1]) {
                0x02 => acl.named.push((Subject::User(id), rights)),
                0x04 => acl.owning_group = rights,
                0x08 => acl.named.push((Subject::Group(id), rights)),
                // The owner, the mask and everybody else: the mode has their rights.
                0x01 | 0x10 | 0x20 => {}
                _ => return None,
            }
        }
        Some(acl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_format_is_read_and_nothing_else() {
        // `setfacl -m u:1001:rwx,g:1002:r-x` of a file with mode 0754.
        let bytes =
            b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x07\0\xe9\x03\0\0\x04\0\x05\0\xff\xff\xff\xff\
                      \x08\0\x05\0\xea\x03\0\0\x10\0\x07\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
        let named = vec![(Subject::User(1001), 7), (Subject::Group(1002), 5)];
        assert_eq!(Acl::parse(bytes), Some(Acl { owning_group: 5, named }));
        assert_eq!(Acl::parse(b"\x02\0\0\0"), Some(Acl::default()));
        for broken in [&b""[..], b"\x02\0\0", b"\x03\0\0\0", &bytes[..11], b"\x02\0\0\0\x40\0\x07\0\0\0\0\0"]
        {
            assert_eq!(Acl::parse(broken), None, "{broken:?}");
        }
    }
}
