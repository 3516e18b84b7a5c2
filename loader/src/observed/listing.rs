//! What is under the pin root, told apart by its names.

use std::collections::BTreeMap;

use xdpd_config::Label;
use xdpd_kernel::{Dir, EntryKind, Look, Result};

use super::directory::{Directory, read_interface};
use super::names::{FORMER, LOCK, NEXT, OLD, SNAP, TAKEN};
use super::{ForeignPin, Pinned};
use crate::permissions::Permissions;

/// The entries of the pin root.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) interfaces: BTreeMap<Label, Pinned>,
    pub(super) foreign: Vec<ForeignPin>,
    pub(super) remnants: Remnants,
}

/// What runs keep under the pin root while they work, each in the order of its names. Those with a label are named
/// after it.
#[derive(Debug, Default)]
pub(super) struct Remnants {
    pub(super) takeovers: Vec<String>,
    pub(super) notes: Vec<(String, Label)>,
    pub(super) snaps: Vec<String>,
    pub(super) removals: Vec<(String, Label)>,
    pub(super) stages: Vec<(String, Label)>,
}

impl Listing {
    pub(super) fn read(root: &Dir) -> Result<Self> {
        let mut listing = Self::default();
        let Remnants { takeovers, notes, snaps, removals, stages } = &mut listing.remnants;
        // A run that has detached the last interface may have removed it just now: then it has no entries.
        for entry in root.list()? {
            let Ok(name) = entry.name.into_string() else {
                listing.foreign.push(ForeignPin::of("(not UTF-8)", "an entry that is not UTF-8"));
                continue;
            };
            if let Some(prefix) =
                [LOCK, NEXT, OLD, TAKEN, FORMER, SNAP].iter().find(|p| name.starts_with(**p))
            {
                let label = Label::from_file_name(&name[prefix.len()..]);
                let is_ours =
                    if *prefix == FORMER { entry.kind == EntryKind::File } else { is_ours(root, &name)? };
                match (*prefix, label.filter(|_| is_ours)) {
                    (LOCK, _) if name == LOCK && is_ours => {}
                    (NEXT, Some(label)) => stages.push((name, label)),
                    (OLD, Some(label)) => removals.push((name, label)),
                    (FORMER, Some(label)) => notes.push((name, label)),
                    (TAKEN, Some(_)) => takeovers.push(name),
                    (SNAP, Some(_)) => snaps.push(name),
                    _ => {
                        listing.foreign.push(ForeignPin::of(name, "not xdpd's, though it has such a name"));
                    }
                }
            } else if entry.kind != EntryKind::Dir {
                let what = if entry.kind == EntryKind::Symlink { "a symlink" } else { "a pin" };
                listing.foreign.push(ForeignPin::of(name, what));
            } else {
                let label = Label::from_file_name(&name);
                match label.map(|label| Ok((read_interface(root, &name)?, label))).transpose()? {
                    Some((Directory::Ours(pinned), label)) => {
                        listing.interfaces.insert(label, *pinned);
                    }
                    Some((Directory::Untrusted(permissions), _)) => {
                        let what = "a directory that others than root can change";
                        listing.foreign.push(ForeignPin { name, what, untrusted: Some(permissions) });
                    }
                    Some(_) if root.find_stat(&name)?.is_none() => {}
                    _ => listing.foreign.push(ForeignPin::of(name, "a directory without our record")),
                }
            }
        }
        Ok(listing)
    }
}

/// Whether an entry can be a directory of ours: one that only root can change. Where it vanished meanwhile, it is.
fn is_ours(root: &Dir, name: &str) -> Result<bool> {
    Ok(match root.find_dir(name)? {
        Look::Found(dir) => !Permissions::from(dir.stat_self()?).is_others_to_change(),
        Look::Gone => true,
        Look::Other(_) => false,
    })
}
