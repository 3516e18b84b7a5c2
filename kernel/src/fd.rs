//! Descriptors that other libraries hand out as bare numbers.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use crate::error::{Error, Result};
use crate::sys;

/// A descriptor of our own for what is open under a number, closed on exec. `EBADF` when nothing is.
pub fn dup_raw(fd: RawFd) -> Result<OwnedFd> {
    sys::dup_cloexec(fd)
        .map_err(|source| Error::new("fcntl(F_DUPFD_CLOEXEC)", format!("descriptor {fd}"), source))
}

/// Lets the open descriptor `onto`, which another library owns, refer to the map behind `map` instead of the one it
/// has now. The library keeps the number and closes it when it is done.
///
/// Both must be maps of the same type, sizes and number of entries (`EINVAL` otherwise), so that no size that anybody
/// remembers becomes wrong. The owner must keep `onto` open meanwhile.
pub fn dup_onto(map: &impl AsFd, onto: RawFd) -> Result<()> {
    const CALL: &str = "dup3";
    let object = format!("descriptor {onto}");
    let shape = |fd: &OwnedFd| -> Result<_> {
        match crate::object::kind_of(fd)? {
            Some(crate::ObjectKind::Map) => {}
            _ => return Err(Error::invalid(CALL, object.as_str(), "not a map")),
        }
        let info = sys::map_info(fd.as_fd()).map_err(|source| Error::new(CALL, object.as_str(), source))?;
        Ok((info.map_type, info.key_size, info.value_size, info.max_entries))
    };
    let new = map.as_fd().try_clone_to_owned().map_err(|source| Error::new(CALL, object.as_str(), source))?;
    let old = dup_raw(onto)?;
    let (new_shape, old_shape) = (shape(&new)?, shape(&old)?);
    if new_shape != old_shape {
        let reason = format!("maps of different shape: {old_shape:?} and {new_shape:?}");
        return Err(Error::invalid(CALL, object.as_str(), reason));
    }
    // SAFETY: what `onto` refers to is a map of the same type and sizes before and after.
    unsafe { sys::dup_onto(map.as_fd(), onto) }.map_err(|source: io::Error| Error::new(CALL, object, source))
}
