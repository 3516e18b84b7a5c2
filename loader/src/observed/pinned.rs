//! An interface as it is pinned.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use xdpd_config::record::Record;
use xdpd_kernel::{BtfId, Device, IfIndex, LinkId, MapDef, MapId, MapInfo, ObjectKind, ProgramId};

use super::maps;
use super::names::map_pin;
use crate::object::MapLayout;
use crate::permissions::Permissions;

/// An interface as it is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The directory's name under the pin root.
    pub directory: String,
    /// Our record of it; Err says what is wrong with it.
    pub record: Result<Record, String>,
    /// The link that keeps the program attached.
    pub link: LinkState,
    /// Pinned maps by name.
    pub maps: BTreeMap<String, PinnedMap>,
    /// Retired maps.
    pub retired: Vec<Retired>,
    /// Who may read it.
    pub permissions: PinPermissions,
    /// Names of entries that are neither.
    pub others: Vec<OtherEntry>,
}

impl Pinned {
    /// The link is on this device: its index alone may be that of a device in another namespace, the program is not.
    pub fn runs_on(&self, device: &Device) -> bool {
        match self.link {
            LinkState::Live { program, ifindex, .. } => {
                ifindex == device.ifindex && device.xdp.iter().any(|a| a.program_id == program)
            }
            _ => false,
        }
    }

    /// The program on a device is the one that the link attaches there. Or did a moment ago: a link is defunct as soon as
    /// its device goes, and a look at the devices just before that still shows both.
    pub fn holds(&self, device: &Device, program: ProgramId) -> bool {
        let place = match self.link {
            LinkState::Live { ifindex, .. } => Some(ifindex),
            LinkState::Defunct { .. } => self.record.as_ref().ok().map(|record| IfIndex(record.ifindex)),
            LinkState::Missing | LinkState::NotALink(_) => None,
        };
        place == Some(device.ifindex) && self.link.program() == Some(program)
    }

    /// The live link runs the program of the record.
    pub(super) fn runs_its_record(&self) -> bool {
        match (&self.record, &self.link) {
            (Ok(record), LinkState::Live { program, .. }) => record.program == program.0,
            _ => false,
        }
    }
}

/// The permissions in an interface's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinPermissions {
    /// Those of the directory.
    pub directory: Permissions,
    /// Those of the pins of maps, retired ones among them, by file name.
    pub pins: BTreeMap<String, Permissions>,
}

impl PinPermissions {
    /// Those of the directory and of these maps; of retired ones, an undo may leave one more.
    pub fn of<T>(&self, maps: &BTreeMap<String, T>) -> (Permissions, Vec<Option<Permissions>>) {
        (self.directory, maps.keys().map(|name| self.pins.get(&map_pin(name)).copied()).collect())
    }
}

/// What `xdp-link` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// There is no such pin.
    Missing,
    /// The pin is something else, in words.
    NotALink(String),
    /// A link whose device is gone.
    Defunct {
        /// Link id.
        id: LinkId,
        /// The program it still holds.
        program: ProgramId,
    },
    /// A link on a device.
    Live {
        /// Link id.
        id: LinkId,
        /// The program that runs.
        program: ProgramId,
        /// The device, in the namespace it is in now.
        ifindex: IfIndex,
    },
}

impl LinkState {
    /// The id of the link.
    pub fn id(&self) -> Option<LinkId> {
        match self {
            Self::Defunct { id, .. } | Self::Live { id, .. } => Some(*id),
            Self::Missing | Self::NotALink(_) => None,
        }
    }

    /// The program that the link holds.
    pub fn program(&self) -> Option<ProgramId> {
        match self {
            Self::Defunct { program, .. } | Self::Live { program, .. } => Some(*program),
            Self::Missing | Self::NotALink(_) => None,
        }
    }
}

/// A pinned map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedMap {
    /// Map id.
    pub id: MapId,
    /// Its definition as the kernel tells it.
    pub def: MapDef,
    /// BTF object with the type ids of key and value.
    pub btf: Option<(BtfId, u32, u32)>,
    /// The layout by that BTF; read only where a plan needs it.
    pub layout: Option<MapLayout>,
    /// How many of its entries have no room in the map that is to take its place; read only where a plan needs it.
    pub excess: Option<usize>,
    /// The ids of the maps or programs that it holds, by key; read only where a plan needs it.
    pub slots: Option<BTreeMap<Vec<u8>, u32>>,
}

impl PinnedMap {
    /// What the kernel knows about it; the rest is not read.
    pub(super) fn of(info: &MapInfo) -> Self {
        let btf = maps::types_of(info);
        Self { id: info.id, def: info.def, btf, layout: None, excess: None, slots: None }
    }
}

/// A retired map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// File name.
    pub pin: String,
    /// Its generation.
    pub generation: u64,
    /// Its id.
    pub id: MapId,
}

/// An entry in an interface's directory that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherEntry {
    /// File name.
    pub name: OsString,
    /// What it is. A directory cannot be carried over by a hard link.
    pub what: OtherKind,
}

/// What an entry is that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherKind {
    /// A directory.
    Directory,
    /// A pinned map of a name that is none of a map's.
    Map,
    /// A pinned program.
    Program,
    /// A pinned link.
    Link,
    /// A symlink, or something that cannot be opened.
    Unknown,
}

impl From<ObjectKind> for OtherKind {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::Map => Self::Map,
            ObjectKind::Program => Self::Program,
            ObjectKind::Link => Self::Link,
        }
    }
}

impl fmt::Display for OtherKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::Map => "a map",
            Self::Program => "a program",
            Self::Link => "a link",
            Self::Unknown => "neither map, program nor link",
        })
    }
}
