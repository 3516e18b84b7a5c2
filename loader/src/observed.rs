//! What the kernel and bpffs hold: the pins under the pin root, the links behind them, and who runs on a device.
//!
//! Reading changes nothing. What an interrupted run left behind is told apart and folded in, so that a plan is made
//! from the state that the next run starts from.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use xdpd_config::escape::{escape, unescape};
use xdpd_config::record::Record;
use xdpd_config::{LINK_PIN, Label, OWNER_PIN, retired};
use xdpd_kernel::bpffs;
use xdpd_kernel::{
    Access, Attached, BtfId, Dir, EntryKind, IfIndex, LinkId, LinkKind, Map, MapDef, MapId, MapInfo,
    PinError, PinnedObject, Program, ProgramId, XdpLink,
};

use crate::devices::Devices;
use crate::dispatcher::{self, Dispatcher};
use crate::entries::{self, Content};
use crate::migrate::{Family, family};
use crate::mode;
use crate::object::{Btf, MapLayout, map_layout};
use crate::readers::Permissions;
use crate::root;

/// Prefix of a directory that is being put together, or of the one it was exchanged with.
pub const NEXT: &str = "%next-";
/// Prefix of a directory that is being removed.
pub const OLD: &str = "%old-";
/// Prefix of a directory that keeps a program of someone else's until ours has taken its place for good.
pub const TAKEN: &str = "%taken-";
/// Prefix of a map that tells what global variables held before an apply wrote them.
pub const FORMER: &str = "%former-";
/// Prefix of a directory with the maps whose entries are on their way.
pub const SNAP: &str = "%snap-";
/// The directory whose lock apply and detach hold.
pub const LOCK: &str = "%lock";

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
    /// Possible CPUs, by which the kernel rounds the size of some maps.
    pub possible_cpus: u32,
    /// What maps hold; read only of those of which the file says it.
    pub contents: BTreeMap<MapId, Content>,
}

/// The state of the pin root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Root {
    /// It is there.
    #[default]
    Present,
    /// It does not exist yet; its file system is a bpffs.
    Missing,
    /// There is no bpffs at /sys/fs/bpf, below which it is to be: apply mounts one.
    Mountable,
    /// The same, in a mount namespace of its own, where a mount would help nobody.
    PrivateMounts,
    /// It is a symlink, or no directory at all.
    NotADirectory,
    /// It belongs to this user, and not to root.
    NotRoots(u32),
    /// Others than root may make entries in it. Holds its permission bits.
    OthersWrite(u32),
    /// Neither it nor an ancestor lies on a bpffs, and it is no place to mount one.
    NoBpffs,
}

/// Who may reach the pins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The pin root's own permissions; `None`: it does not exist.
    pub root: Option<Permissions>,
    /// xdpd has made it.
    pub made: bool,
    /// The directories that lead to it, from the nearest on.
    pub above: Vec<(PathBuf, Permissions)>,
}

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

impl std::fmt::Display for OtherKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::Map => "a map",
            Self::Program => "a program",
            Self::Link => "a link",
            Self::Unknown => "neither map, program nor link",
        })
    }
}

/// An entry of the pin root that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignPin {
    /// File name.
    pub name: String,
    /// What it is, in words.
    pub what: &'static str,
}

/// A leftover of an interrupted run and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interrupted {
    /// A staged directory whose program never ran, or the replaced one after the exchange: dropped.
    DropStage {
        /// Name under the pin root.
        directory: String,
    },
    /// A staged directory whose program runs already: the exchange is finished.
    FinishExchange {
        /// Name of the stage.
        directory: String,
        /// The interface it is for.
        label: Label,
    },
    /// A removal that was cut off: taken back, so that the plan decides again.
    TakeBack {
        /// Name of the directory.
        directory: String,
        /// The interface it was.
        label: Label,
    },
    /// Global variables that an apply had written when it was cut off: they get back what they held, unless the program
    /// runs that the values were for.
    SettleGlobals {
        /// Name of the map that tells what they held.
        note: String,
        /// The interface they are of.
        label: Label,
    },
    /// Entries that were on their way: settled with the program that runs.
    Settle {
        /// Name of the directory.
        directory: String,
    },
    /// A takeover that was cut off: the other's program is put back if nothing runs in its place.
    GiveBack {
        /// Name of the directory.
        directory: String,
    },
}

impl Interrupted {
    /// Its name under the pin root.
    pub fn directory(&self) -> &str {
        match self {
            Self::DropStage { directory }
            | Self::Settle { directory }
            | Self::GiveBack { directory }
            | Self::FinishExchange { directory, .. }
            | Self::TakeBack { directory, .. } => directory,
            Self::SettleGlobals { note, .. } => note,
        }
    }

    /// The interface it is about.
    pub fn label(&self) -> Cow<'_, str> {
        match self {
            Self::DropStage { directory } | Self::Settle { directory } | Self::GiveBack { directory } => {
                let prefixes = [NEXT, OLD, SNAP, TAKEN];
                let name = prefixes.iter().find_map(|prefix| directory.strip_prefix(prefix));
                let label = name.and_then(Label::from_file_name);
                label.map_or(Cow::Borrowed(directory), |label| Cow::Owned(label.to_string()))
            }
            Self::FinishExchange { label, .. }
            | Self::TakeBack { label, .. }
            | Self::SettleGlobals { label, .. } => Cow::Borrowed(label.as_str()),
        }
    }

    /// What becomes of it, in words.
    pub fn settlement(&self) -> &'static str {
        match self {
            Self::DropStage { .. } => "left by an interrupted run, removed",
            Self::FinishExchange { .. } => "an interrupted apply, finished first",
            Self::TakeBack { .. } => "an interrupted removal, taken back first",
            Self::SettleGlobals { .. } => {
                "global variables of an interrupted apply, put back unless its program runs"
            }
            Self::Settle { .. } => "entries that were being carried over, settled first",
            Self::GiveBack { .. } => {
                "an interrupted takeover; the other's program is put back where nothing runs"
            }
        }
    }
}

/// A program on a device that no link of ours holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignProgram {
    /// Its name in the kernel.
    pub name: String,
    /// Hex of its tag.
    pub tag: String,
    /// The `bpf_link` that holds it; `None` where it was attached through netlink.
    pub link: Option<LinkId>,
    /// It is the dispatcher of libxdp.
    pub dispatcher: Option<Dispatcher>,
}

impl std::fmt::Display for ForeignProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.dispatcher {
            Some(dispatcher) => write!(f, "libxdp dispatcher ({dispatcher}; tag {}, ", self.tag)?,
            None => write!(f, "program `{}` (tag {}, ", self.name, self.tag)?,
        }
        match self.link {
            Some(id) => write!(f, "held by bpf_link {id})"),
            None => f.write_str("attached through netlink)"),
        }
    }
}

/// Whether leftovers of interrupted runs are folded into the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// As the next run will find them after recovery.
    FoldIn,
    /// As if they were not there: for looking at a run's own result before it has cleaned up.
    Ignore,
}

/// Reads the state of `pin_root` beside a snapshot of the devices.
pub fn observe(
    pin_root: &Path,
    devices: Devices,
    leftovers: Leftovers,
) -> Result<Observed, xdpd_kernel::Error> {
    let mut observed = Observed {
        devices,
        possible_cpus: u32::try_from(xdpd_kernel::cpu::possible()?).unwrap_or(u32::MAX),
        ..Observed::default()
    };
    match Dir::open(pin_root) {
        Ok(root) if root.is_bpffs()? => {
            let permissions = root.stat_self()?.into();
            observed.root = Root::of(permissions);
            observed.place =
                Place { root: Some(permissions), made: root::made(&root).is_some(), above: Vec::new() };
            if observed.root == Root::Present {
                observed.read_root(&root, leftovers)?;
            }
        }
        Ok(_) => observed.root = missing_root(pin_root)?,
        Err(e) if e.errno() == libc::ENOENT => observed.root = missing_root(pin_root)?,
        Err(e) if e.errno() == libc::ENOTDIR => observed.root = Root::NotADirectory,
        Err(e) => return Err(e),
    }
    observed.place.above = above(pin_root);
    observed.read_foreign_programs()?;
    Ok(observed)
}

/// The directories that lead to a pin root, from the nearest on, as far as they exist.
fn above(pin_root: &Path) -> Vec<(PathBuf, Permissions)> {
    let directories = pin_root.ancestors().skip(1);
    let permissions = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some(Permissions { uid: found.uid(), gid: found.gid(), mode: found.mode() & 0o777 })
    };
    directories.filter_map(|path| Some((path.to_owned(), permissions(path)?))).collect()
}

/// What can be done about a pin root that is not there, or not on a bpffs.
pub fn missing_root(pin_root: &Path) -> Result<Root, xdpd_kernel::Error> {
    let existing = pin_root.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    Ok(if bpffs::is_bpffs(existing)? {
        Root::Missing
    } else if !pin_root.starts_with(bpffs::MOUNT_POINT) {
        Root::NoBpffs
    } else if bpffs::in_init_mount_namespace()? {
        Root::Mountable
    } else {
        Root::PrivateMounts
    })
}

impl Root {
    /// Of one that is there.
    pub fn of(permissions: Permissions) -> Self {
        match permissions {
            Permissions { uid: 0, .. } if !permissions.is_others_to_change() => Self::Present,
            Permissions { uid: 0, mode, .. } => Self::OthersWrite(mode),
            Permissions { uid, .. } => Self::NotRoots(uid),
        }
    }

    /// Why nothing can be pinned there, and what to do.
    pub fn problem(&self, pin_root: &Path) -> Option<String> {
        let path = pin_root.display();
        match self {
            Self::Present | Self::Missing | Self::Mountable => None,
            Self::NotADirectory => Some(format!(
                "pin_root {path} is no directory; a symlink is not followed, name what it leads to"
            )),
            Self::NotRoots(uid) => {
                Some(format!("pin_root {path} belongs to user {uid}, not to root: not used"))
            }
            Self::OthersWrite(mode) => Some(format!(
                "pin_root {path} has mode {mode:04o}, so that others than root can put pins there: not used; chmod go-w \
                 {path}, or name a directory in it, which apply makes"
            )),
            Self::NoBpffs => Some(format!(
                "pin_root {path} is not on a bpffs; mount one there: mount -t bpf -o mode=0700,X-mount.mkdir bpf {path}"
            )),
            Self::PrivateMounts => Some(format!(
                "no bpffs at {} in this mount namespace: `ip netns exec` has a /sys of its own, and pins made in it \
                 die with the process. Run xdpd in the host's mount namespace, either with \
                 `nsenter --net=/run/netns/NAME xdpd ...` or by naming the namespace in the file: netns = \"NAME\"",
                bpffs::MOUNT_POINT
            )),
        }
    }
}

impl Observed {
    fn read_root(&mut self, root: &Dir, leftovers: Leftovers) -> Result<(), xdpd_kernel::Error> {
        let mut stages = Vec::new();
        let mut removals = Vec::new();
        let mut notes = Vec::new();
        let mut carried = Vec::new();
        let entries = match root.list() {
            // A run that has detached the last interface has just removed it.
            Err(e) if e.errno() == libc::ENOENT => Vec::new(),
            entries => entries?,
        };
        for entry in entries {
            let Ok(name) = entry.name.into_string() else {
                self.foreign
                    .push(ForeignPin { name: "(not UTF-8)".into(), what: "an entry that is not UTF-8" });
                continue;
            };
            let is_ours_by_name = [NEXT, OLD, TAKEN, LOCK].iter().any(|prefix| name.starts_with(prefix));
            if is_ours_by_name && !is_ours(root, &name)? {
                self.foreign.push(ForeignPin { name, what: "not xdpd's, though it has such a name" });
            } else if let Some(rest) = name.strip_prefix(NEXT) {
                stages.extend(Label::from_file_name(rest).map(|label| (name.clone(), label)));
            } else if let Some(rest) = name.strip_prefix(OLD) {
                removals.extend(Label::from_file_name(rest).map(|label| (name.clone(), label)));
            } else if name.starts_with(TAKEN) {
                if leftovers == Leftovers::FoldIn {
                    self.fold_takeover(root, name)?;
                }
            } else if let Some(rest) = name.strip_prefix(FORMER) {
                notes.extend(Label::from_file_name(rest).map(|label| (name.clone(), label)));
            } else if name.starts_with(SNAP) {
                carried.push(Interrupted::Settle { directory: name });
            } else if name == LOCK {
            } else if entry.kind != EntryKind::Dir {
                let what = if entry.kind == EntryKind::Symlink { "a symlink" } else { "a pin" };
                self.foreign.push(ForeignPin { name, what });
            } else {
                match Label::from_file_name(&name)
                    .map(|label| Ok((read_interface(root, &name)?, label)))
                    .transpose()?
                {
                    Some((Some(pinned), label)) => drop(self.interfaces.insert(label, pinned)),
                    Some(_) if has_vanished(root, &name)? => {}
                    _ => self.foreign.push(ForeignPin { name, what: "a directory without our record" }),
                }
            }
        }
        if leftovers == Leftovers::FoldIn {
            self.interrupted
                .extend(notes.into_iter().map(|(note, label)| Interrupted::SettleGlobals { note, label }));
            // After the variables: a value that was written into a new map would count as one that its program has changed,
            // and be carried back. Before the stages: they hold the maps that are settled.
            self.interrupted.extend(carried);
            for (directory, label) in removals {
                self.fold_removal(root, directory, label)?;
            }
            for (directory, label) in stages {
                self.fold_stage(root, directory, label)?;
            }
        }
        Ok(())
    }

    /// A program that was detached for a takeover is seen as attached, as it will be once it is put back.
    fn fold_takeover(&mut self, root: &Dir, directory: String) -> Result<(), xdpd_kernel::Error> {
        if let Some(taken) = Taken::read(root, &directory)? {
            let id = taken.program.info()?.id;
            let mode = mode::to_kernel(taken.record.mode);
            let name = taken.record.netns_name.as_deref();
            if let Some(device) = self.devices.device_mut(name, IfIndex(taken.record.ifindex))
                && device.xdp.is_empty()
            {
                device.xdp.push(Attached { mode, program_id: id });
            }
        }
        self.interrupted.push(Interrupted::GiveBack { directory });
        Ok(())
    }

    /// `%old-X` without `X`: the removal had begun. With `X`, the interface was applied anew and only the clean-up is
    /// missing.
    fn fold_removal(
        &mut self,
        root: &Dir,
        directory: String,
        label: Label,
    ) -> Result<(), xdpd_kernel::Error> {
        let pinned = read_interface(root, &directory)?;
        // Without a record, what is left in it is not ours, and gets its place back.
        let only_theirs = pinned.is_none() && !is_empty(root, &directory)?;
        if self.interfaces.contains_key(&label) || (pinned.is_none() && !only_theirs) {
            self.interrupted.push(Interrupted::DropStage { directory });
            return Ok(());
        }
        if let Some(pinned) = pinned {
            self.interfaces.insert(label.clone(), pinned);
        }
        self.interrupted.push(Interrupted::TakeBack { directory, label });
        Ok(())
    }

    /// The commit goes link first, exchange second. So the stage wins where its program runs and the interface's own
    /// record does not describe what runs.
    fn fold_stage(&mut self, root: &Dir, directory: String, label: Label) -> Result<(), xdpd_kernel::Error> {
        let Some(staged) = read_interface(root, &directory)? else {
            self.interrupted.push(Interrupted::DropStage { directory });
            return Ok(());
        };
        let current_runs = self.interfaces.get(&label).is_some_and(Pinned::runs_its_record);
        if staged.runs_its_record() && !current_runs {
            self.interfaces.insert(label.clone(), staged);
            self.interrupted.push(Interrupted::FinishExchange { directory, label });
        } else {
            self.interrupted.push(Interrupted::DropStage { directory });
        }
        Ok(())
    }

    /// A program is told apart per device: others can attach one of ours elsewhere, or theirs twice, once by a link.
    fn read_foreign_programs(&mut self) -> Result<(), xdpd_kernel::Error> {
        let attached = self.devices.iter().flat_map(|(_, d)| d.xdp.iter().map(move |a| (d, a.program_id)));
        let ours = |device, id| self.interfaces.values().any(|p| p.holds(device, id));
        let foreign: BTreeSet<(ProgramId, IfIndex)> =
            attached.filter(|(d, id)| !ours(d, *id)).map(|(d, id)| (id, d.ifindex)).collect();
        if foreign.is_empty() {
            return Ok(());
        }
        let links: BTreeMap<_, _> = XdpLink::all_xdp()?
            .into_iter()
            .filter_map(|info| Some(((info.program_id, info.ifindex()?), info.id)))
            .collect();
        for place in foreign {
            let info = match Program::open_by_id(place.0).and_then(|p| p.info()) {
                Ok(info) => info,
                // It went away meanwhile.
                Err(e) if e.errno() == libc::ENOENT => continue,
                Err(e) => return Err(e),
            };
            let program = ForeignProgram {
                dispatcher: dispatcher::read(&info)?,
                link: links.get(&place).copied(),
                tag: info.tag_hex(),
                name: info.name,
            };
            self.foreign_programs.insert(place, program);
        }
        Ok(())
    }

    /// Reads the layouts of the maps of these interfaces, for comparing them with an object's.
    pub fn read_layouts(&mut self, labels: &BTreeSet<Label>) -> Result<(), xdpd_kernel::Error> {
        let mut known = BTreeMap::new();
        for (_, pinned) in self.interfaces.iter_mut().filter(|(label, _)| labels.contains(*label)) {
            for map in pinned.maps.values_mut() {
                map.layout = map.btf.map(|btf| read_layout(btf, &mut known)).transpose()?.flatten();
            }
        }
        Ok(())
    }

    /// Counts what the maps hold beyond these numbers of entries.
    pub fn read_excess(&mut self, wanted: &BTreeMap<(Label, String), u32>) -> Result<(), xdpd_kernel::Error> {
        for ((label, name), room) in wanted {
            let pinned = self.interfaces.get_mut(label).and_then(|pinned| pinned.maps.get_mut(name));
            if let Some(pinned) = pinned {
                pinned.excess = match Map::open_by_id(pinned.id) {
                    Ok(map) => Some(excess(&map, *room)?),
                    // It went away meanwhile.
                    Err(e) if e.errno() == libc::ENOENT => None,
                    Err(e) => return Err(e),
                };
            }
        }
        Ok(())
    }
}

/// How many entries of a map have no room among so many: of an array those that hold anything.
fn excess(map: &Map, room: u32) -> Result<usize, xdpd_kernel::Error> {
    let is_array = family(map.def().map_type) == Some(Family::Array);
    let mut count = 0_usize;
    map.for_each(|key, value| {
        let index = <[u8; 4]>::try_from(key).map(u32::from_ne_bytes);
        let beyond = index.is_ok_and(|index| index >= room) && value.iter().any(|byte| *byte != 0);
        count += usize::from(!is_array || beyond);
    })?;
    Ok(if is_array { count } else { count.saturating_sub(room as usize) })
}

/// The layout of a map's keys and values, where type information tells it.
pub fn layout_of(info: &MapInfo) -> Result<Option<MapLayout>, xdpd_kernel::Error> {
    Ok(types_of(info).map(|btf| read_layout(btf, &mut BTreeMap::new())).transpose()?.flatten())
}

/// BTF object with the type ids of key and value.
type Types = (BtfId, u32, u32);

fn types_of(info: &MapInfo) -> Option<Types> {
    info.btf_id.map(|btf| (btf, info.btf_key_type_id, info.btf_value_type_id))
}

fn read_layout(
    (object, key, value): Types,
    known: &mut BTreeMap<BtfId, Option<Btf>>,
) -> Result<Option<MapLayout>, xdpd_kernel::Error> {
    let btf = match known.entry(object) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            let raw = xdpd_kernel::Btf::open_by_id(object)?.raw()?;
            new.insert(Btf::parse(&raw).ok())
        }
    };
    Ok(btf.as_ref().and_then(|btf| map_layout(btf, key, value)))
}

impl Observed {
    /// Reads what these maps hold. One that is no more, or of a type that the file cannot fill, has no content.
    pub fn read_contents(&mut self, maps: &BTreeSet<MapId>) -> Result<(), xdpd_kernel::Error> {
        for id in maps {
            let map = match Map::open_by_id(*id) {
                Err(e) if e.errno() == libc::ENOENT => continue,
                map => map?,
            };
            if entries::holds_entries(map.def().map_type) {
                self.contents.insert(*id, entries::read(&map)?);
            }
        }
        Ok(())
    }
}

impl Pinned {
    /// The link is on this device: its index alone may be that of a device in another namespace, the program is not.
    pub fn runs_on(&self, device: &xdpd_kernel::netlink::Device) -> bool {
        match self.link {
            LinkState::Live { program, ifindex, .. } => {
                ifindex == device.ifindex && device.xdp.iter().any(|a| a.program_id == program)
            }
            _ => false,
        }
    }

    /// The program on a device is the one that the link attaches there. Or did a moment ago: a link is defunct as soon as
    /// its device goes, and a look at the devices just before that still shows both.
    pub fn holds(&self, device: &xdpd_kernel::netlink::Device, program: ProgramId) -> bool {
        let place = match self.link {
            LinkState::Live { ifindex, .. } => Some(ifindex),
            LinkState::Defunct { .. } => self.record.as_ref().ok().map(|record| IfIndex(record.ifindex)),
            LinkState::Missing | LinkState::NotALink(_) => None,
        };
        place == Some(device.ifindex) && self.link.program() == Some(program)
    }

    /// The live link runs the program of the record.
    fn runs_its_record(&self) -> bool {
        match (&self.record, &self.link) {
            (Ok(record), LinkState::Live { program, .. }) => record.program == program.0,
            _ => false,
        }
    }
}

/// A program of someone else's that ours takes the place of, as it is kept until that is final: its pin, and a record
/// of where it ran.
#[derive(Debug)]
pub struct Taken {
    /// Its device, mode and program.
    pub record: Record,
    /// The program.
    pub program: Program,
}

/// Name of the program's pin.
const TAKEN_PROGRAM: &str = "program";

impl Taken {
    /// Keeps it. Until all of it is there, nothing may be detached.
    pub fn write(&self, root: &Dir, directory: &str) -> Result<(), xdpd_kernel::Error> {
        root.mkdir(directory, 0o700)?;
        let dir = root.open_dir(directory)?;
        dir.symlink(self.record.format(), OWNER_PIN)?;
        dir.pin(TAKEN_PROGRAM, &self.program)
    }

    /// Reads it; `None` where it is not all there, so nothing was detached.
    pub fn read(root: &Dir, directory: &str) -> Result<Option<Self>, xdpd_kernel::Error> {
        let absent = |e: &xdpd_kernel::Error| [libc::ENOENT, libc::EINVAL].contains(&e.errno());
        let dir = match root.open_dir(directory) {
            Err(e) if absent(&e) => return Ok(None),
            dir => dir?,
        };
        let record = match dir.readlink(OWNER_PIN) {
            Err(e) if absent(&e) => return Ok(None),
            text => text?.to_str().and_then(|text| Record::parse(text).ok()),
        };
        match (record, dir.open_program(TAKEN_PROGRAM)) {
            (Some(record), Ok(program)) => Ok(Some(Self { record, program })),
            (_, Err(PinError::Kernel(e))) if !absent(&e) => Err(e),
            _ => Ok(None),
        }
    }
}

/// Whether an entry can be a directory of ours: one that only root can change. Where it vanished meanwhile, it is.
fn is_ours(root: &Dir, name: &str) -> Result<bool, xdpd_kernel::Error> {
    match root.open_dir(name).and_then(|dir| dir.stat_self()) {
        Ok(stat) => Ok(!Permissions::from(stat).is_others_to_change()),
        Err(e) if e.errno() == libc::ENOENT => Ok(true),
        Err(e) if e.errno() == libc::ENOTDIR => Ok(false),
        Err(e) => Err(e),
    }
}

fn has_vanished(root: &Dir, name: &str) -> Result<bool, xdpd_kernel::Error> {
    match root.stat(name) {
        Ok(_) => Ok(false),
        Err(e) if e.errno() == libc::ENOENT => Ok(true),
        Err(e) => Err(e),
    }
}

/// Whether nothing is in a directory, or it vanished meanwhile.
fn is_empty(root: &Dir, name: &str) -> Result<bool, xdpd_kernel::Error> {
    match root.open_dir(name).and_then(|dir| dir.list()) {
        Ok(entries) => Ok(entries.is_empty()),
        Err(e) if e.errno() == libc::ENOENT => Ok(true),
        Err(e) => Err(e),
    }
}

/// How often a directory is read anew that another run exchanges all the while.
const ATTEMPTS: usize = 16;

/// Reads one interface's directory; `None` where it has no record, or others than root can change it, so is not ours,
/// or where it vanished meanwhile.
///
/// Another run can exchange it for another directory while it is read, and remove it. Then what was read is half of
/// something, and it is read again.
pub fn read_interface(root: &Dir, name: &str) -> Result<Option<Pinned>, xdpd_kernel::Error> {
    let gone = |e: &xdpd_kernel::Error| e.errno() == libc::ENOENT;
    let mut read = Ok(None);
    for _ in 0..ATTEMPTS {
        let dir = match root.open_dir(name) {
            Ok(dir) => dir,
            Err(e) if gone(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        read = read_directory(&dir, name);
        match root.stat(name) {
            Ok(now) if now.ino == dir.stat_self()?.ino => break,
            Ok(_) => {}
            Err(e) if gone(&e) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    read
}

fn read_directory(dir: &Dir, name: &str) -> Result<Option<Pinned>, xdpd_kernel::Error> {
    let gone = |e: &xdpd_kernel::Error| e.errno() == libc::ENOENT;
    let directory = Permissions::from(dir.stat_self()?);
    if directory.is_others_to_change() {
        return Ok(None);
    }
    let record = match dir.readlink(OWNER_PIN) {
        Ok(text) => match text.to_str() {
            Some(text) => Record::parse(text).map_err(|e| e.to_string()),
            None => Err("it is not UTF-8".to_owned()),
        },
        // EINVAL: something of that name that is no symlink.
        Err(e) if gone(&e) || e.errno() == libc::EINVAL => return Ok(None),
        Err(e) => return Err(e),
    };
    // What the record does not name was put there by others, whatever it is.
    let is_ours = |map: &String| record.as_ref().map_or(true, |r: &Record| r.maps.contains_key(map));
    let mut pinned = Pinned {
        directory: name.to_owned(),
        record: record.clone(),
        link: LinkState::Missing,
        maps: BTreeMap::new(),
        retired: Vec::new(),
        permissions: PinPermissions { directory, pins: BTreeMap::new() },
        others: Vec::new(),
    };
    for entry in dir.list()? {
        let mut other = OtherEntry { name: entry.name.clone(), what: OtherKind::Unknown };
        let Ok(name) = entry.name.into_string() else {
            pinned.others.push(other);
            continue;
        };
        if name == OWNER_PIN || is_own_temporary(&name) {
        } else if entry.kind == EntryKind::Dir {
            pinned.others.push(OtherEntry { what: OtherKind::Directory, ..other });
        } else if name == LINK_PIN {
            pinned.link = read_link(dir)?;
        } else if entry.kind != EntryKind::File {
            pinned.others.push(other);
        } else if let Some((_, generation, id)) = retired::parse(&name) {
            if let Some(permissions) = permissions(dir, &name)? {
                pinned.permissions.pins.insert(name.clone(), permissions);
                pinned.retired.push(Retired { pin: name, generation, id: MapId(id) });
            }
        } else {
            // A pin of another type under the name of a map is not ours; neither is one that vanished.
            match (unescape(&name), dir.open_pin(&name, Access::ReadOnly)) {
                (Some(map), Ok(PinnedObject::Map(object))) if is_ours(&map) => {
                    if let Some(permissions) = permissions(dir, &name)? {
                        pinned.permissions.pins.insert(name, permissions);
                        pinned.maps.insert(map, read_map(&object));
                    }
                }
                (_, Err(e)) if gone(&e) => {}
                (_, object) => {
                    other.what = match object {
                        Ok(PinnedObject::Map(_)) => OtherKind::Map,
                        Ok(PinnedObject::Program(_)) => OtherKind::Program,
                        Ok(PinnedObject::Link(_)) => OtherKind::Link,
                        Err(e) if is_no_pin_of_ours(&e) => OtherKind::Unknown,
                        Err(e) => return Err(e),
                    };
                    pinned.others.push(other);
                }
            }
        }
    }
    pinned.retired.sort_by_key(|r| r.generation);
    Ok(Some(pinned))
}

/// Those of a pin, `None` where it vanished meanwhile.
fn permissions(dir: &Dir, pin: &str) -> Result<Option<Permissions>, xdpd_kernel::Error> {
    match dir.stat(pin) {
        Ok(stat) => Ok(Some(stat.into())),
        Err(e) if e.errno() == libc::ENOENT => Ok(None),
        Err(e) => Err(e),
    }
}

fn read_link(dir: &Dir) -> Result<LinkState, xdpd_kernel::Error> {
    let link = match dir.open_link(LINK_PIN) {
        Ok(link) => link,
        Err(PinError::Kernel(e)) if e.errno() == libc::ENOENT => return Ok(LinkState::Missing),
        Err(PinError::Kernel(e)) if !is_no_pin_of_ours(&e) => return Err(e),
        Err(e) => return Ok(LinkState::NotALink(e.to_string())),
    };
    let info = link.info()?;
    Ok(match info.kind {
        LinkKind::Xdp { ifindex: Some(ifindex) } => {
            LinkState::Live { id: info.id, program: info.program_id, ifindex }
        }
        LinkKind::Xdp { ifindex: None } => LinkState::Defunct { id: info.id, program: info.program_id },
        LinkKind::Other(kind) => LinkState::NotALink(format!("a bpf_link of type {kind}, not of XDP")),
    })
}

/// The answer is about what the entry is, and not that it could not be looked at just now: taking one for the other
/// would make a plan from a state that is not there.
fn is_no_pin_of_ours(error: &xdpd_kernel::Error) -> bool {
    [libc::EACCES, libc::EINVAL, libc::EPERM].contains(&error.errno())
}

fn read_map(map: &Map) -> PinnedMap {
    let info = map.info();
    PinnedMap { id: info.id, def: info.def, btf: types_of(info), layout: None, excess: None }
}

/// Names with `%` and no two hex digits are ours: what an interrupted step left, to go with its directory.
fn is_own_temporary(name: &str) -> bool {
    name.starts_with('%') && unescape(name).is_none()
}

/// File name of a map's pin.
pub fn map_pin(map: &str) -> String {
    escape(map)
}
