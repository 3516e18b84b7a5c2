//! What all BPF objects have in common: telling their kinds, their names, their ids.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::error::{Error, PinError, Result};
use crate::look::Other;
use crate::sys;
use crate::uapi::{BPF_OBJ_NAME_LEN, Command};
use xdpd_types::ObjectKind;

/// What kind of BPF object a descriptor refers to; `None` when it is none, or of a kind unknown here.
///
/// The kernel has no call for it, but the file's name in /proc tells: `anon_inode:bpf-map`, `anon_inode:bpf-prog` and
/// `anon_inode:bpf_link` on Linux 6.1 to 6.18, some links with another suffix, some versions with brackets.
pub fn kind_of(object: impl AsFd) -> Result<Option<ObjectKind>> {
    let path = format!("/proc/self/fd/{}", object.as_fd().as_raw_fd());
    let target = match rustix::fs::readlink(&path, Vec::new()) {
        Ok(target) => target,
        Err(_) if !proc_is_mounted() => return Err(Error::invalid("readlink", path, NO_PROC)),
        Err(errno) => return Err(Error::new("readlink", path, errno)),
    };
    let target = target.to_string_lossy();
    Ok(match target.strip_prefix("anon_inode:").map(|name| name.trim_matches(['[', ']'])) {
        Some(name) if name.starts_with("bpf-map") => Some(ObjectKind::Map),
        Some(name) if name.starts_with("bpf-prog") => Some(ObjectKind::Program),
        Some(name) if name.starts_with("bpf_link") || name.starts_with("bpf-link") => Some(ObjectKind::Link),
        _ => None,
    })
}

pub(crate) const NO_PROC: &str = "/proc is not mounted here";

/// Whether this process can name its descriptors; true when that cannot be found out.
pub(crate) fn proc_is_mounted() -> bool {
    !matches!(std::fs::exists("/proc/self/fd"), Ok(false))
}

/// Opens an object by its id; `None` when there is none by what the kernel says twice. `command` is one of
/// `BPF_*_GET_FD_BY_ID`.
///
/// The lists of ids cannot confirm it: an object that is being freed has left its users and still has its id there
/// (kernel/bpf/syscall.c, `bpf_link_inc_not_zero` and its like).
pub(crate) fn find_by_id(command: Command, id: u32, origin: &str) -> Result<Option<OwnedFd>> {
    sys::present_if_any(|| sys::fd_by_id(command, id))
        .map_err(|source| Error::new(command.name, origin, source))
}

/// Refuses a descriptor that is not of a given kind; `origin` names it.
pub(crate) fn expect(object: impl AsFd, expected: ObjectKind, origin: &str) -> Result<(), PinError> {
    match kind_of(object)? {
        Some(found) if found == expected => Ok(()),
        Some(found) => {
            Err(PinError::WrongType { path: origin.into(), found: Other::Object(found), expected })
        }
        None => Err(Error::invalid("readlink", origin, "not a BPF object").into()),
    }
}

/// The ids of all objects of one kind that exist in the kernel, ascending.
///
/// Needs `CAP_SYS_ADMIN`. Objects come and go meanwhile: opening one of these ids can fail with `ENOENT`.
#[derive(Debug)]
pub struct Ids<T> {
    command: Command,
    last: u32,
    done: bool,
    id: fn(u32) -> T,
}

impl<T> Ids<T> {
    pub(crate) fn new(command: Command, id: fn(u32) -> T) -> Self {
        Self { command, last: 0, done: false, id }
    }
}

impl<T> Iterator for Ids<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match sys::next_id(self.command, self.last) {
            Ok(Some(id)) => {
                self.last = id;
                Some(Ok((self.id)(id)))
            }
            Ok(None) => {
                self.done = true;
                None
            }
            Err(source) => {
                self.done = true;
                Some(Err(Error::new(self.command.name, format!("id {}", self.last), source)))
            }
        }
    }
}

/// A name as the kernel keeps it: the first 15 bytes.
pub(crate) fn to_kernel_name(name: &str) -> [u8; BPF_OBJ_NAME_LEN] {
    let mut bytes = [0; BPF_OBJ_NAME_LEN];
    for (to, from) in bytes[..BPF_OBJ_NAME_LEN - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bytes
}

/// The text of a name that the kernel keeps: up to its NUL.
pub(crate) fn from_kernel_name(bytes: &[u8; BPF_OBJ_NAME_LEN]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
