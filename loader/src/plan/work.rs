//! What the executor carries out of a plan.

use std::collections::BTreeMap;

use crate::object::Store;
use xdpd_config::Mode;
use xdpd_kernel::{IfIndex, MapId, NetNsId, ProgramId};

use crate::entries::Edit;

/// What the executor does with an interface.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Put it together anew beside what is there, then swap.
    Install(Box<Install>),
    /// Leave it as it is: only what its maps hold changes.
    Entries,
    /// Take it away.
    Remove {
        /// Its directory under the pin root.
        directory: String,
    },
}

/// How an interface is put together.
#[derive(Debug, Clone, PartialEq)]
pub struct Install {
    /// The directory that it replaces.
    pub replaces: Option<String>,
    /// The device.
    pub device: String,
    /// Its index.
    pub ifindex: IfIndex,
    /// That it vanishes meanwhile is no failure.
    pub optional: bool,
    /// Its namespace: as the file names it, and its identity.
    pub netns: Option<String>,
    /// Device and inode of the namespace.
    pub netns_id: NetNsId,
    /// Modes to try in order; for a link that is kept, the one it has.
    pub modes: Vec<Mode>,
    /// Where the program comes from.
    pub program: ProgramWork,
    /// What happens to the link.
    pub link: LinkWork,
    /// Someone else's program that is detached for it.
    pub takeover: Option<Takeover>,
    /// Every map of the interface.
    pub maps: BTreeMap<String, MapWork>,
    /// What is written into global variables of maps that are kept.
    pub stores: Vec<Store>,
    /// The map that goes into retirement.
    pub retire: Option<RetiredMap>,
    /// Generation of the stats map afterwards.
    pub generation: u64,
}

/// Where the program comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramWork {
    /// Loaded from the object.
    Load,
    /// The one that runs.
    Keep(ProgramId),
}

/// What happens to the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkWork {
    /// It stays as it is.
    Keep,
    /// Its program is replaced, if it still is the expected one.
    Update {
        /// The program that runs now.
        expected: ProgramId,
    },
    /// It is made.
    Create {
        /// The old link holds the same device and must be detached first: a gap.
        detach_first: bool,
    },
}

/// A program of someone else's, attached through netlink, that ours takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takeover {
    /// The program.
    pub program: ProgramId,
    /// Where it runs.
    pub mode: Mode,
}

/// What happens to a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapWork {
    /// Its pin is linked into the new directory.
    Keep(MapId),
    /// It has lost its pin; it is found by its id.
    Repin(MapId),
    /// It is made.
    Create,
    /// It is made, and the entries of this one are carried over.
    Migrate(MapId),
}

impl MapWork {
    /// Whether another map takes the place of the one that is pinned.
    pub fn replaces(&self) -> bool {
        matches!(self, Self::Create | Self::Migrate(_))
    }
}

/// What changes in a map that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapEdits {
    /// Its name.
    pub map: String,
    /// Its id.
    pub id: MapId,
    /// What changes, in order.
    pub edits: Vec<Edit>,
}

/// A map that goes into retirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredMap {
    /// Its name.
    pub map: String,
    /// Its id.
    pub id: MapId,
    /// The generation it had.
    pub generation: u64,
}

/// What the operator allowed on the command line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allow {
    /// Interfaces of another config may be taken over.
    pub adopt: bool,
    /// Programs of others that are attached through netlink may be replaced.
    pub takeover: bool,
}
