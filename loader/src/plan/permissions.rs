//! Who may read the pins: what differs from what the file says, and what keeps readers from reaching them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xdpd_config::shell;
use xdpd_kernel::bpffs;

use super::interface::Planner;
use super::{Action, Address, Change, Facts, MapWork, Note};
use crate::desired::Desired;
use crate::observed::{Observed, Root, map_pin};
use crate::permissions::{self, Permissions, Readers};

/// A pin root whose permissions change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootChange {
    /// The pin root.
    pub path: PathBuf,
    /// What it has.
    pub from: Permissions,
    /// What it is to have.
    pub to: Permissions,
}

impl Planner<'_> {
    /// The permissions of pins that stay. Where nothing else changes, those of the directory count too: any change makes
    /// it anew.
    pub(super) fn permissions(&self, maps: &BTreeMap<String, MapWork>, changes: &mut Vec<Change>) {
        let Some(pinned) = self.pinned else { return };
        let readers = self.desired.readers.as_ref();
        let change = |address, from: Permissions, to: Permissions, what: &str| {
            (from != to).then(|| Change {
                reason: Some(format!("{what}{}", from.difference(to))),
                before: Some(Facts::Permissions(from)),
                after: Some(Facts::Permissions(to)),
                ..Change::new(address, Action::Update)
            })
        };
        for (name, _) in maps.iter().filter(|(_, work)| matches!(work, MapWork::Keep(_))) {
            if let Some(from) = pinned.permissions.pins.get(&map_pin(name)) {
                let address = Address::Map(name.clone());
                changes.extend(change(address, *from, permissions::of_maps(readers), ""));
            }
        }
        if changes.is_empty() {
            let (from, to) = (pinned.permissions.directory, permissions::of_directories(readers));
            changes.extend(change(Address::Link, from, to, "the directory of its pins: "));
        }
    }
}

/// What the permissions of the pin root change to. Only where xdpd has made it, and for this file alone.
pub(super) fn root_change(desired: &Desired, observed: &Observed) -> Option<RootChange> {
    let from = observed.place.root?;
    let to = permissions::of_directories(desired.readers.as_ref());
    let is_ours = observed.place.made && observed.root == Root::Present && !is_shared(desired, observed);
    (is_ours && from != to).then(|| RootChange { path: desired.pin_root.clone(), from, to })
}

/// Another file has interfaces there, and keeps them.
fn is_shared(desired: &Desired, observed: &Observed) -> bool {
    let mut others =
        observed.interfaces.iter().filter(|(label, _)| !desired.attachments.contains_key(*label));
    others.any(|(_, pinned)| pinned.record.as_ref().is_ok_and(|record| record.config != desired.config))
}

/// What keeps the group from the pins, though the pins are to be for it, and what to do about it: it is not for xdpd to
/// change.
pub(super) fn obstacles(desired: &Desired, observed: &Observed) -> Option<Note> {
    let readers = desired.readers.as_ref()?;
    let what = above(desired, observed, readers).or_else(|| at_root(desired, observed, readers))?;
    Some(Note { interface: None, what })
}

fn above(desired: &Desired, observed: &Observed, readers: &Readers) -> Option<String> {
    const SEARCH: u32 = 1;
    let mounted = |path: &Path, now: Permissions| match observed.root {
        // As apply is going to mount it.
        Root::Mountable if path == Path::new(bpffs::MOUNT_POINT) => permissions::of_directories(None),
        _ => now,
    };
    let directories = observed.place.above.iter().map(|(path, now)| (path, mounted(path, *now)));
    let (path, permissions) =
        directories.rev().find(|(_, permissions)| !permissions.admits(readers.gid, SEARCH))?;
    Some(format!(
        "group `{}` cannot reach {}: {} has {permissions}, and xdpd changes nothing above its pin root. A bpffs of its own \
         is made by `mount -t bpf -o mode=0711,X-mount.mkdir bpf /run/xdpd`, at every boot by `bpf /run/xdpd bpf \
         mode=0711,X-mount.mkdir 0 0` in /etc/fstab; then set pin_root = \"/run/xdpd/pins\"",
        readers.name,
        desired.pin_root.display(),
        path.display(),
    ))
}

fn at_root(desired: &Desired, observed: &Observed, readers: &Readers) -> Option<String> {
    const READ_AND_SEARCH: u32 = 5;
    let permissions = observed.place.root?;
    if permissions.admits(readers.gid, READ_AND_SEARCH) || root_change(desired, observed).is_some() {
        return None;
    }
    let (path, word) = (desired.pin_root.display(), shell::word(&desired.pin_root));
    let why =
        if observed.place.made { "interfaces of another file are in it" } else { "xdpd has not made it" };
    Some(format!(
        "group `{}` cannot read {path}, which has {permissions}, and it is left so since {why}: `chgrp {} {word} && chmod \
         0750 {word}`",
        readers.name, readers.gid
    ))
}
