//! The directories of interfaces: what is read of them, and how they go.

use std::collections::BTreeSet;

use xdpd_config::record::Record;
use xdpd_config::{LINK_PIN, OWNER_PIN};
use xdpd_kernel::{Dir, LinkId, Look, XdpLink};

use crate::observed::OtherEntry;

/// Links that stay in use.
pub(super) type LinkIds = BTreeSet<LinkId>;

/// Removes a directory of ours, and detaches the program that its link holds unless the link stays in use.
///
/// The detach is a call of its own. That of the last reference is not enough: a process that is being started at the
/// same moment has copies of our descriptors until it execs, and then the program outlives this call. It comes first, so
/// that the pin is still there for another try when it fails.
pub(super) fn remove_directory(root: &Dir, name: &str, live: &LinkIds) -> Result<(), xdpd_kernel::Error> {
    let dir = match root.find_dir(name)? {
        Look::Found(dir) => dir,
        Look::Gone => return Ok(()),
        // Not one of ours: the error says what it is.
        Look::Other(_) => return root.open_dir(name).map(drop),
    };
    detach_link_in(&dir, live)?;
    empty(&dir, &[])?;
    root.rmdir(name)
}

/// Removes the entries of a directory but those of others. The record goes last: until then the next run knows whose
/// the rest is.
pub(super) fn empty(dir: &Dir, others: &[OtherEntry]) -> Result<(), xdpd_kernel::Error> {
    for entry in dir.list()? {
        if entry.name != OWNER_PIN && !others.iter().any(|o| o.name == entry.name) {
            dir.unlink(&entry.name)?;
        }
    }
    dir.remove(OWNER_PIN).map(drop)
}

/// Detaches the link that is pinned in a directory, unless it stays in use.
pub(super) fn detach_link_in(dir: &Dir, live: &LinkIds) -> Result<(), xdpd_kernel::Error> {
    let Some(link) = open_link_if_any(dir)? else { return Ok(()) };
    let info = link.info()?;
    if info.ifindex().is_some() && !live.contains(&info.id) {
        link.detach()?;
    }
    Ok(())
}

/// The pinned link of an interface, `None` where the pin is missing or holds something else.
pub(super) fn open_link_if_any(dir: &Dir) -> Result<Option<XdpLink>, xdpd_kernel::Error> {
    Ok(dir.find_link(LINK_PIN)?.found())
}

/// The record of a directory, `None` where it cannot be understood.
pub(super) fn read_record(dir: &Dir) -> Result<Option<Record>, xdpd_kernel::Error> {
    Ok(dir.readlink(OWNER_PIN)?.to_str().and_then(|text| Record::parse(text).ok()))
}
