//! What the kernel and bpffs hold: the pins under the pin root, the links behind them, and who runs on a device.
//!
//! Reading changes nothing, and goes one way: the entries of the pin root are listed and told apart by their names
//! (`listing`), each interface's directory is read (`directory`), and what an interrupted run left behind is folded
//! in (`interrupted`), so that a plan is made from the state that the next run starts from. What only some plans need
//! to know of maps is asked for afterwards (`maps`).

mod directory;
mod foreign;
mod interrupted;
mod listing;
mod maps;
mod names;
mod pin_root;
mod pinned;
mod slots;
mod taken;

use std::collections::BTreeMap;
use std::path::Path;

use xdpd_config::Label;
use xdpd_kernel::{Dir, IfIndex, Look, MapId, ProgramId};

pub use foreign::{ForeignPin, ForeignProgram};
pub use interrupted::{Interrupted, Leftovers};
pub use maps::layout_of;
pub use names::{FORMER, LOCK, MADE, NEXT, OLD, SNAP, TAKEN, map_pin};
pub use pin_root::{Place, Root, leftovers, lock_holder, made, missing_root};
pub use pinned::{LinkState, OtherEntry, OtherKind, PinPermissions, Pinned, PinnedMap, Retired};
pub use taken::Taken;

use crate::devices::Devices;
use crate::entries::Content;
use listing::Listing;

/// A snapshot of everything that a plan depends on.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The devices and the programs they run.
    pub devices: Devices,
    /// Whether the pin root exists.
    pub root: Root,
    /// Who may reach it.
    pub place: Place,
    /// The interfaces of any config under the pin root.
    pub interfaces: BTreeMap<Label, Pinned>,
    /// What lies under the pin root and is not ours.
    pub foreign: Vec<ForeignPin>,
    /// What an interrupted run left, with what the next run does about it.
    pub interrupted: Vec<Interrupted>,
    /// Programs on the file's devices that none of our links holds, by where they run.
    pub foreign_programs: BTreeMap<(ProgramId, IfIndex), ForeignProgram>,
    /// Possible CPUs, by which the kernel rounds the size of some maps; 0 until [`read_cpus`](Self::read_cpus).
    pub possible_cpus: u32,
    /// What maps hold; read only of those of which the file says it.
    pub contents: BTreeMap<MapId, Content>,
}

impl Observed {
    /// Finds out how many CPUs are possible, on which the entries and the size of maps depend. What a plan for a file needs,
    /// and a look at pins does not: it may take a map to measure it with.
    pub fn read_cpus(&mut self) -> Result<(), xdpd_kernel::Error> {
        self.possible_cpus = u32::try_from(xdpd_kernel::cpu::possible()?).unwrap_or(u32::MAX);
        Ok(())
    }

    /// The interface that is pinned in a directory.
    pub fn pinned_in(&self, directory: &str) -> Option<&Pinned> {
        self.interfaces.values().find(|pinned| pinned.directory == directory)
    }
}

/// Reads the state of `pin_root` beside a snapshot of the devices.
pub fn observe(
    pin_root: &Path,
    devices: Devices,
    leftovers: Leftovers,
) -> Result<Observed, xdpd_kernel::Error> {
    let mut observed = Observed { devices, ..Observed::default() };
    let dir = match Dir::find(pin_root)? {
        Look::Found(dir) if dir.is_bpffs()? => Some(dir),
        Look::Other(_) => {
            observed.root = Root::NotADirectory;
            None
        }
        Look::Found(_) | Look::Gone => {
            observed.root = missing_root(pin_root)?;
            None
        }
    };
    if let Some(dir) = &dir {
        let permissions = dir.stat_self()?.into();
        observed.root = pin_root::misled(pin_root)?.unwrap_or_else(|| Root::of(permissions));
        (observed.place.root, observed.place.made) = (Some(permissions), made(dir)?.is_some());
    }
    observed.place.above = pin_root::above(pin_root)?;
    if let Some(dir) = dir.filter(|_| observed.root == Root::Present) {
        let listing = Listing::read(&dir)?;
        observed.interfaces = listing.interfaces;
        observed.foreign = listing.foreign;
        if leftovers == Leftovers::FoldIn {
            observed.fold_in(&dir, listing.remnants)?;
        }
    }
    observed.foreign_programs = foreign::programs(&observed.devices, &observed.interfaces)?;
    Ok(observed)
}
