//! The directories of interfaces: what is read of them, and how they go.

use std::collections::BTreeSet;

use xdpd_config::record::Record;
use xdpd_config::{LINK_PIN, OWNER_PIN};
use xdpd_kernel::{DetachError, Dir, IfIndex, LinkId, Look, Program, ProgramId, XdpLink, netlink};

use crate::devices;
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

/// Removes a stage that came to nothing, and detaches its program where it runs without a link.
pub(super) fn drop_stage(root: &Dir, name: &str, live: &LinkIds) -> Result<(), xdpd_kernel::Error> {
    detach_without_link(root, name)?;
    remove_directory(root, name, live)
}

/// Detaches the program of a stage where it runs without a link.
///
/// To get the kernel's words on a refusal, a program is sent through netlink. If the driver takes it then, a kill or a
/// failure can come before it is removed again.
pub(super) fn detach_without_link(root: &Dir, name: &str) -> Result<(), xdpd_kernel::Error> {
    let Some(dir) = root.find_dir(name)?.found() else { return Ok(()) };
    if open_link_if_any(&dir)?.is_some() {
        return Ok(());
    }
    let Some(text) = dir.find_symlink(OWNER_PIN)?.found() else { return Ok(()) };
    let Some(record) = text.to_str().and_then(|text| Record::parse(text).ok()) else { return Ok(()) };
    let (ifindex, id) = (IfIndex(record.ifindex), ProgramId(record.program));
    // Mostly nothing has held it since its run ended.
    let Some(program) = Program::find_by_id(id)? else { return Ok(()) };
    let Some(netns) = devices::netns_of(&record)? else { return Ok(()) };
    netns.run(|| {
        let devices = netlink::devices()?;
        let mut attached = devices.iter().filter(|d| d.ifindex == ifindex).flat_map(|d| &d.xdp);
        let Some(attached) = attached.find(|attached| attached.program_id == id) else { return Ok(()) };
        let links = XdpLink::all_xdp()?;
        if links.iter().any(|link| link.program_id == id && link.ifindex() == Some(ifindex)) {
            return Ok(());
        }
        match netlink::detach_netlink(ifindex, attached.mode, &program) {
            Err(DetachError::DeviceGone(_) | DetachError::Replaced { .. }) => Ok(()),
            detached => detached.map_err(DetachError::into_error),
        }
    })?
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
