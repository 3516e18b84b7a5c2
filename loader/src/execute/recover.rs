//! Settles what a run left that was killed.

use xdpd_config::OWNER_PIN;
use xdpd_kernel::Dir;

use super::carry::{self, CarryError};
use super::directories::{LinkIds, drop_stage, remove_directory};
use super::takeover::give_back;
use super::{RAN, RECORD_BESIDE, globals};
use crate::observed::{Interrupted, Observed};
use crate::permissions;

/// Settles what an interrupted run left behind. Comes before everything else, under the lock.
pub(crate) fn recover(root: &Dir, observed: &Observed) -> Result<(), CarryError> {
    let live: LinkIds = observed.interfaces.values().filter_map(|p| p.link.id()).collect();
    keep_counts(root, observed)?;
    for leftover in &observed.interrupted {
        match leftover {
            Interrupted::DropStage { directory } => drop_stage(root, directory, &live)?,
            Interrupted::Settle { directory } => carry::settle_interrupted(root, observed, directory)?,
            Interrupted::GiveBack { directory } => give_back(root, directory)?,
            Interrupted::SettleGlobals { note, label } => {
                let running = observed.interfaces.get(label).and_then(|pinned| pinned.link.program());
                globals::settle(root, note, running)?;
            }
            Interrupted::TakeBack { directory, label } => {
                root.rename_noreplace(directory, label.file_name())?;
            }
            Interrupted::FinishExchange { directory, label } => {
                let name = label.file_name();
                let stage = root.open_dir(directory)?;
                // The record with the mode that the link was really made in, if the run came that far.
                stage.rename_if_there(RECORD_BESIDE, OWNER_PIN)?;
                // Who may read the maps in use is compared with the file later on. Of retired ones it is not.
                let permissions = permissions::of_maps_in(stage.stat_self()?.into());
                for retired in observed.interfaces.get(label).iter().flat_map(|pinned| &pinned.retired) {
                    permissions::set(&stage, Some(&retired.pin), permissions)?;
                }
                // Only what is ours is exchanged and removed. Anything else of that name is in the way.
                if has_record(root, &name)? {
                    root.exchange(directory, &name)?;
                    remove_directory(root, directory, &live)?;
                } else {
                    root.rename_noreplace(directory, &name)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether a name is that of a directory with a record.
fn has_record(root: &Dir, name: &str) -> Result<bool, xdpd_kernel::Error> {
    let Some(dir) = root.find_dir(name)?.found() else { return Ok(false) };
    Ok(dir.find_symlink(OWNER_PIN)?.found().is_some())
}

/// Retires the maps in which a program has counted that was being taken back. Where it still runs, its stage takes the
/// place of the interface, and these names go with what it replaces.
fn keep_counts(root: &Dir, observed: &Observed) -> Result<(), xdpd_kernel::Error> {
    for pinned in observed.interfaces.values() {
        let dir = root.open_dir(&pinned.directory)?;
        for entry in dir.list()? {
            if let Some(retired) = entry.name.to_str().and_then(|name| name.strip_prefix(RAN)) {
                dir.rename(&entry.name, retired)?;
            }
        }
    }
    Ok(())
}
