//! Carries out a plan: everything that can fail is done beside the running state, then a short commit that can be
//! undone step by step.
//!
//! Prepare: a staged directory `%next-<label>` per interface, with its maps pinned, its program loaded and its record
//! written. Commit: the links first (create or update), one RCU grace period, then one exchange of directories per
//! interface. Clean up: the old directories go, and with the last reference to a link its program is detached.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::time::Duration;

use libc::{E2BIG, EACCES, EINVAL, ENODEV, ENOENT, ENOLINK, ENOSYS, EOPNOTSUPP, ERANGE};
use xdpd_config::record::Record;
use xdpd_config::{LINK_PIN, Label, Mode, OWNER_PIN, retired};
use xdpd_kernel::{
    Btf, Dir, IfIndex, LinkId, Map, MapBtf, MapId, NetNs, NetNsId, PinError, Program, XdpLink, clock, netlink,
};

use crate::desired::{Desired, Instance};
use crate::engine::{Engine, EngineError, LoadRequest};
use crate::interrupt::{Interrupt, Interrupted as Signal};
use crate::objects::Objects;
use crate::observed::{Interrupted, NEXT, OLD, Observed, OtherEntry, OtherKind, TAKEN, Taken, map_pin};
use crate::plan::{Install, LinkWork, MapWork, Plan, ProgramWork, Takeover, Work};
use crate::trial::Trial;
use crate::{devices, mode};

/// A retired map is kept at least this long for readers, in seconds.
const RETIRED_SECONDS: u64 = 60;
/// At most this many retired maps are kept per interface.
const RETIRED_MAX: usize = 16;
const DIR_MODE: u32 = 0o700;
/// A record that is about to take the place of another.
const RECORD_BESIDE: &str = "%record";

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A call to the kernel.
    #[error("{what}: {source}{}", hint(.source))]
    Kernel {
        /// The interface and what was being done.
        what: String,
        /// The call that failed.
        source: xdpd_kernel::Error,
    },
    /// Loading a program.
    #[error("{label}: cannot load {function}: {source}")]
    Engine {
        /// The interface.
        label: String,
        /// The function.
        function: String,
        /// Why.
        source: EngineError,
    },
    /// A signal asked to stop.
    #[error("interrupted by {0}")]
    Interrupted(#[from] Signal),
    /// The result is not what was planned.
    #[error("{0}")]
    Verification(String),
    /// Nobody confirmed it.
    #[error("not confirmed within {}", humantime::format_duration(*.0))]
    Unconfirmed(Duration),
}

impl StepError {
    /// The verifier's log, where that is the cause.
    pub fn verifier_log(&self) -> Option<&str> {
        match self {
            Self::Engine { source: EngineError::Rejected { log, .. }, .. } => Some(log),
            _ => None,
        }
    }
}

/// What an errno of attaching means to an operator.
fn hint(error: &xdpd_kernel::Error) -> &'static str {
    match (error.call(), error.errno()) {
        ("BPF_LINK_CREATE", EOPNOTSUPP) => {
            "; the driver has no such mode, mode = [\"native\", \"generic\"] falls back"
        }
        ("BPF_LINK_CREATE", ERANGE) => {
            "; the MTU is too large for native XDP without frags, lower it or use mode = \"generic\""
        }
        ("BPF_LINK_CREATE", EINVAL) => "; the device cannot run this program in this mode",
        ("BPF_LINK_UPDATE", libc::EPERM) => "; another program was attached meanwhile, apply again",
        _ => "",
    }
}

/// How far a failed run got.
#[derive(Debug)]
pub struct Failure {
    /// The cause.
    pub error: Box<StepError>,
    /// A commit step had been made.
    pub committed: bool,
    /// What could not be undone, in words.
    pub not_restored: Vec<String>,
}

/// Everything that a run works with.
pub struct Executor<'a, E> {
    /// The locked pin root.
    pub root: &'a Dir,
    /// The desired state.
    pub desired: &'a Desired,
    /// The state that the plan was made from.
    pub observed: &'a Observed,
    /// The objects of the file.
    pub objects: &'a Objects,
    /// What loads programs.
    pub engine: &'a mut E,
    /// Asks between steps whether to stop.
    pub interrupt: &'a Interrupt,
    /// What is done stays only if it is confirmed.
    pub trial: Option<Trial<'a>>,
}

/// An interface that is put together beside the running one.
struct Staged<'a> {
    label: &'a Label,
    install: &'a Install,
    name: String,
    dir: Dir,
    program: Program,
    record: Record,
    /// Where the interface is pinned now.
    old: Option<Old>,
    /// Someone else's program that runs now.
    taken: Option<Taken>,
}

/// The pins that a staged interface replaces.
struct Old {
    dir: Dir,
    /// The link as pinned, unless there is none.
    link: Option<XdpLink>,
    /// The program that it runs.
    program: Option<Program>,
}

/// An interface that goes.
struct Leaving<'a> {
    label: &'a Label,
    directory: &'a str,
    /// What it runs, where that ends before the clean-up.
    held: Option<Held>,
}

/// A program that is detached on trial.
struct Held {
    old: Old,
    link: XdpLink,
    record: Record,
}

/// Where a program is attached.
#[derive(Clone, Copy)]
struct Place<'p> {
    netns: Option<&'p str>,
    ifindex: IfIndex,
    modes: &'p [Mode],
}

/// How one commit step is taken back.
enum Undo<'s, 'a> {
    /// The old program comes back, if ours still runs.
    Update { staged: &'s Staged<'a>, link: XdpLink },
    /// The link that was made goes.
    Create { staged: &'s Staged<'a>, link: XdpLink },
    /// The link that was detached is made anew, in the mode it had.
    Detach { label: &'a Label, old: &'s Old, place: Place<'s> },
    /// Someone else's program gets its place back.
    Takeover { staged: &'s Staged<'a> },
    /// Two directories change places once more.
    Exchange { a: String, b: String },
    /// A directory gets its name back.
    Rename { from: String, to: String },
}

impl<'s, 'a> Undo<'s, 'a> {
    /// The stage whose program ran in the place of the old one.
    fn ran(&self) -> Option<&'s Staged<'a>> {
        match self {
            Self::Update { staged, .. } => Some(staged),
            _ => None,
        }
    }
}

/// Settles what an interrupted run left behind. Comes before everything else, under the lock.
pub fn recover(root: &Dir, observed: &Observed) -> Result<(), xdpd_kernel::Error> {
    let live: LinkIds = observed.interfaces.values().filter_map(|p| p.link.id()).collect();
    for leftover in &observed.interrupted {
        match leftover {
            Interrupted::DropStage { directory } => remove_directory(root, directory, &live)?,
            Interrupted::GiveBack { directory } => give_back(root, directory)?,
            Interrupted::TakeBack { directory, label } => {
                root.rename_noreplace(directory, label.file_name())?;
            }
            Interrupted::FinishExchange { directory, label } => {
                let name = label.file_name();
                // The record with the mode that the link was really made in, if the run came that far.
                match root.open_dir(directory)?.rename(RECORD_BESIDE, OWNER_PIN) {
                    Err(e) if e.errno() != ENOENT => return Err(e),
                    _ => {}
                }
                // Only what is ours is exchanged and removed. Anything else of that name is in the way.
                if root.open_dir(&name).is_ok_and(|dir| dir.readlink(OWNER_PIN).is_ok()) {
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

/// Puts a program of someone else's back where nothing runs in its place, and forgets it.
fn give_back(root: &Dir, directory: &str) -> Result<(), xdpd_kernel::Error> {
    if let Some(Taken { record, program }) = Taken::read(root, directory)? {
        let (ifindex, mode) = (IfIndex(record.ifindex), mode::to_kernel(record.mode));
        let restore = |netns: NetNs| {
            netns.run(|| {
                let devices = netlink::devices()?;
                let device = devices.iter().find(|d| d.ifindex == ifindex);
                // Gone, or not free: there is nothing to put back.
                match device.filter(|d| d.xdp.is_empty()) {
                    Some(_) => netlink::attach_netlink(ifindex, &program, mode, None),
                    None => Ok(()),
                }
            })?
        };
        match devices::open(record.netns_name.as_deref()) {
            Ok(netns) if netns.identity() == (NetNsId { dev: record.netns.0, ino: record.netns.1 }) => {
                restore(netns)?;
            }
            Ok(_) => {}
            Err(e) if has_vanished(&e) => {}
            Err(e) => return Err(e),
        }
    }
    remove_directory(root, directory, &LinkIds::new())
}

/// Links that stay in use.
type LinkIds = BTreeSet<LinkId>;

/// Removes a directory of ours, and detaches the program that its link holds unless the link stays in use.
///
/// The detach is a call of its own. That of the last reference is not enough: a process that is being started at the
/// same moment has copies of our descriptors until it execs, and then the program outlives this call. It comes first, so
/// that the pin is still there for another try when it fails.
fn remove_directory(root: &Dir, name: &str, live: &LinkIds) -> Result<(), xdpd_kernel::Error> {
    let dir = match root.open_dir(name) {
        Ok(dir) => dir,
        Err(e) if e.errno() == ENOENT => return Ok(()),
        Err(e) => return Err(e),
    };
    detach_link_in(&dir, live)?;
    empty(&dir, &[])?;
    root.rmdir(name)
}

/// Removes the entries of a directory but those of others. The record goes last: until then the next run knows whose
/// the rest is.
fn empty(dir: &Dir, others: &[OtherEntry]) -> Result<(), xdpd_kernel::Error> {
    for entry in dir.list()? {
        if entry.name != OWNER_PIN && !others.iter().any(|o| o.name == entry.name) {
            dir.unlink(&entry.name)?;
        }
    }
    match dir.unlink(OWNER_PIN) {
        Err(e) if e.errno() != ENOENT => Err(e),
        _ => Ok(()),
    }
}

/// Detaches the link that is pinned in a directory, unless it stays in use.
fn detach_link_in(dir: &Dir, live: &LinkIds) -> Result<(), xdpd_kernel::Error> {
    let Some(link) = open_link_if_any(dir)? else { return Ok(()) };
    let info = link.info()?;
    if info.ifindex().is_some() && !live.contains(&info.id) {
        link.detach()?;
    }
    Ok(())
}

/// The pinned link of an interface, `None` where the pin is missing or holds something else.
fn open_link_if_any(dir: &Dir) -> Result<Option<XdpLink>, xdpd_kernel::Error> {
    match dir.open_link(LINK_PIN) {
        Ok(link) => Ok(Some(link)),
        Err(PinError::WrongType { .. }) => Ok(None),
        Err(PinError::Kernel(e)) if [ENOENT, EACCES, EINVAL].contains(&e.errno()) => Ok(None),
        Err(PinError::Kernel(e)) => Err(e),
    }
}

impl<'a, E: Engine> Executor<'a, E> {
    /// Runs the plan. `verify` looks at the result before anything old is removed.
    pub fn run(
        &mut self,
        plan: &'a Plan,
        verify: impl FnOnce() -> Result<(), StepError>,
    ) -> Result<Vec<String>, Failure> {
        let mut staged = Vec::new();
        let mut leaving = Vec::new();
        let prepared = self.prepare_all(plan, &mut staged, &mut leaving);
        if let Err(error) = prepared {
            let not_restored = self.drop_stages(plan);
            return Err(Failure { error: Box::new(error), committed: false, not_restored });
        }
        let mut undo = Vec::new();
        let committed = self
            .commit(&staged, &leaving, &mut undo)
            .and_then(|()| verify())
            .and_then(|()| self.try_out(&leaving, &mut undo));
        if let Err(error) = committed {
            let committed = !undo.is_empty();
            let ran: Vec<&Staged<'_>> = undo.iter().filter_map(Undo::ran).collect();
            let mut not_restored = self.undo(undo);
            for staged in ran {
                not_restored.extend(self.keep_counts(staged).err());
            }
            drop((staged, leaving));
            not_restored.extend(self.drop_stages(plan));
            return Err(Failure { error: Box::new(error), committed, not_restored });
        }
        drop(undo);
        Ok(self.clean_up(staged, leaving))
    }

    fn prepare_all(
        &mut self,
        plan: &'a Plan,
        staged: &mut Vec<Staged<'a>>,
        leaving: &mut Vec<Leaving<'a>>,
    ) -> Result<(), StepError> {
        let mut btf = BTreeMap::new();
        for (label, work) in plan.work() {
            self.interrupt.check()?;
            match work {
                Work::Install(install) => staged.push(self.prepare(label, install, &mut btf)?),
                Work::Remove { directory } => {
                    let held = self.trial.map(|_| self.hold(label, directory)).transpose()?.flatten();
                    leaving.push(Leaving { label, directory, held });
                }
            }
        }
        self.interrupt.check()?;
        Ok(())
    }

    /// Puts one interface together beside the running one. Attaches nothing.
    fn prepare(
        &mut self,
        label: &'a Label,
        install: &'a Install,
        btf: &mut BTreeMap<String, Option<Btf>>,
    ) -> Result<Staged<'a>, StepError> {
        let instance = self
            .desired
            .attachments
            .get(label)
            .and_then(|a| self.desired.instances.get(&a.instance))
            .ok_or_else(|| StepError::Verification(format!("{label}: planned, but not desired")))?;
        let name = format!("{NEXT}{}", label.file_name());
        self.root.mkdir(&name, DIR_MODE).map_err(at(label, "make the staged directory"))?;
        let dir = self.root.open_dir(&name).map_err(at(label, "open the staged directory"))?;
        let old = install.replaces.as_deref().map(|old| self.open_old(label, old, install)).transpose()?;

        let maps = self.stage_maps(label, install, instance, &dir, old.as_ref(), btf)?;
        let kept = self.carry_over(label, install, &dir, old.as_ref())?;
        let program = match install.program {
            ProgramWork::Keep(id) => {
                Program::open_by_id(id).map_err(at(label, "open the running program"))?
            }
            ProgramWork::Load => self.load(label, instance, &dir)?,
        };
        let info = program.info().map_err(at(label, "read the loaded program"))?;
        let record = Record {
            version: 1,
            generation: install.generation,
            config: self.desired.config.clone(),
            device: install.device.clone(),
            ifindex: install.ifindex.0,
            netns: (install.netns_id.dev, install.netns_id.ino),
            netns_name: install.netns.clone(),
            mode: *install.modes.first().unwrap_or(&Mode::Native),
            object: instance.digest.clone(),
            globals: None,
            function: instance.function.clone(),
            program: info.id.0,
            attach_type: instance.attach_type,
            maps,
            base: BTreeMap::new(),
            retired: kept,
        };
        let text = record.format();
        if text.len() > Record::MAX_LEN {
            return Err(StepError::Verification(format!(
                "{label}: its record would have {} bytes, a symlink holds {}; fewer maps, or shorter names and paths",
                text.len(),
                Record::MAX_LEN
            )));
        }
        dir.symlink(text, OWNER_PIN).map_err(at(label, "write the record"))?;
        let taken = install.takeover.map(|takeover| self.keep_taken(label, takeover, &record)).transpose()?;
        Ok(Staged { label, install, name, dir, program, record, old, taken })
    }

    /// Opens what is needed to attach an interface again that goes on trial. `None` where nothing of it runs on the
    /// device of its record: that ends with the clean-up.
    fn hold(&self, label: &Label, directory: &str) -> Result<Option<Held>, StepError> {
        let dir = self.root.open_dir(directory).map_err(at(label, "open its directory"))?;
        let Some(link) = open_link_if_any(&dir).map_err(at(label, "open its link"))? else { return Ok(None) };
        let Some(record) = read_record(&dir).map_err(at(label, "read its record"))? else { return Ok(None) };
        let info = link.info().map_err(at(label, "read its link"))?;
        if info.ifindex() != Some(IfIndex(record.ifindex)) {
            return Ok(None);
        }
        let program = Program::open_by_id(info.program_id).map_err(at(label, "open the running program"))?;
        Ok(Some(Held { old: Old { dir, link: None, program: Some(program) }, link, record }))
    }

    fn open_old(&self, label: &Label, directory: &str, install: &Install) -> Result<Old, StepError> {
        let dir = self.root.open_dir(directory).map_err(at(label, "open its directory"))?;
        let link = open_link_if_any(&dir).map_err(at(label, "open its link"))?;
        let running = match (install.link, &link) {
            (LinkWork::Update { expected }, _) => Some(expected),
            (_, Some(link)) => Some(link.info().map_err(at(label, "read its link"))?.program_id),
            (_, None) => None,
        };
        let program =
            running.map(Program::open_by_id).transpose().map_err(at(label, "open the running program"))?;
        Ok(Old { dir, link, program })
    }

    /// Pins every map of the interface in the stage; tells their ids.
    fn stage_maps(
        &self,
        label: &Label,
        install: &Install,
        instance: &Instance,
        dir: &Dir,
        old: Option<&Old>,
        btf: &mut BTreeMap<String, Option<Btf>>,
    ) -> Result<BTreeMap<String, u32>, StepError> {
        let mut ids = BTreeMap::new();
        for (name, work) in &install.maps {
            let pin = map_pin(name);
            let id = match (work, old) {
                (MapWork::Keep(id), Some(old)) => {
                    dir.link(&old.dir, &pin, &pin).map_err(at(label, "keep a map's pin"))?;
                    *id
                }
                (MapWork::Keep(id) | MapWork::Repin(id), _) => {
                    let map = Map::open_by_id(*id).map_err(at(label, "open a map by its id"))?;
                    dir.pin(&pin, &map).map_err(at(label, "pin a map"))?;
                    *id
                }
                (MapWork::Create, _) => self.create_map(label, instance, name, dir, btf)?,
            };
            ids.insert(name.clone(), id.0);
        }
        Ok(ids)
    }

    fn create_map(
        &self,
        label: &Label,
        instance: &Instance,
        name: &str,
        dir: &Dir,
        btf: &mut BTreeMap<String, Option<Btf>>,
    ) -> Result<MapId, StepError> {
        let object = self.objects.by_digest(&instance.digest);
        let spec = object
            .and_then(|o| o.maps().get(name))
            .ok_or_else(|| StepError::Verification(format!("{label}: map {name} is not in the object")))?;
        let btf = match btf.entry(instance.digest.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let types = object.and_then(|o| o.btf()).map(load_btf).transpose();
                new.insert(types.map_err(at(label, "load the types of its maps"))?.flatten())
            }
        };
        let types = match (btf, spec.btf) {
            (Some(btf), Some((key, value))) => Some(MapBtf { btf, key_type_id: key, value_type_id: value }),
            _ => None,
        };
        let map = Map::create(name, &spec.def, types).map_err(at(label, &format!("make map {name}")))?;
        if let Some(content) = object.and_then(|o| o.data(name)) {
            map.update(&0u32.to_ne_bytes(), content, 0).map_err(at(label, "fill a data section's map"))?;
        }
        dir.pin(map_pin(name), &map).map_err(at(label, "pin a map"))?;
        Ok(map.id())
    }

    /// Links into the stage what outlives the change: the link, retired maps, and what others have put there. Tells
    /// the retired maps with the time of their retirement.
    fn carry_over(
        &self,
        label: &Label,
        install: &Install,
        dir: &Dir,
        old: Option<&Old>,
    ) -> Result<BTreeMap<u32, u64>, StepError> {
        let mut kept = BTreeMap::new();
        let (Some(old), Some(directory)) = (old, &install.replaces) else { return Ok(kept) };
        let carry =
            |from: &OsStr, to: &str| dir.link(&old.dir, from, to).map_err(at(label, "carry a pin over"));
        if !matches!(install.link, LinkWork::Create { .. }) {
            carry(LINK_PIN.as_ref(), LINK_PIN)?;
        }
        let Some(pinned) = self.observed.interfaces.values().find(|p| p.directory == *directory) else {
            return Ok(kept);
        };
        for other in pinned.others.iter().filter(|o| o.what != OtherKind::Directory) {
            dir.link(&old.dir, &other.name, &other.name).map_err(at(label, "carry a pin over"))?;
        }
        let now = clock::boottime().as_secs();
        let since = pinned.record.as_ref().map(|r| r.retired.clone()).unwrap_or_default();
        let room = RETIRED_MAX - usize::from(install.retire.is_some());
        for retired in pinned.retired.iter().rev().take(room) {
            // One without a time is from a run that was rolled back; its time starts now.
            let retired_at = since.get(&retired.id.0).copied().unwrap_or(now);
            if now.saturating_sub(retired_at) <= RETIRED_SECONDS {
                carry(retired.pin.as_ref(), &retired.pin)?;
                kept.insert(retired.id.0, retired_at);
            }
        }
        if let Some(retire) = &install.retire {
            carry(
                map_pin(&retire.map).as_ref(),
                &retired::name(&retire.map, retire.generation, retire.id.0),
            )?;
            kept.insert(retire.id.0, now);
        }
        Ok(kept)
    }

    /// Pins someone else's program before it is detached, so that it can be put back, by the next run if need be.
    fn keep_taken(&self, label: &Label, takeover: Takeover, ours: &Record) -> Result<Taken, StepError> {
        let program = Program::open_by_id(takeover.program).map_err(at(label, "open the other's program"))?;
        let record = Record {
            mode: takeover.mode,
            program: takeover.program.0,
            maps: BTreeMap::new(),
            retired: BTreeMap::new(),
            ..ours.clone()
        };
        let taken = Taken { record, program };
        taken.write(self.root, &taken_name(label)).map_err(at(label, "keep the other's program"))?;
        Ok(taken)
    }

    fn load(&mut self, label: &Label, instance: &Instance, dir: &Dir) -> Result<Program, StepError> {
        let failed = |source| StepError::Engine {
            label: label.to_string(),
            function: instance.function.clone(),
            source,
        };
        let object = self
            .objects
            .by_digest(&instance.digest)
            .ok_or_else(|| failed(EngineError::Failed("its object is gone".into())))?;
        let request = LoadRequest { object, function: &instance.function, maps: dir };
        self.engine.load(&request).map_err(failed)
    }

    /// The short part. Every step that is made is noted in `undo` first to last.
    fn commit<'s>(
        &self,
        staged: &'s [Staged<'a>],
        leaving: &'s [Leaving<'a>],
        undo: &mut Vec<Undo<'s, 'a>>,
    ) -> Result<(), StepError> {
        let mut vanished = Vec::new();
        for staged in staged {
            self.interrupt.check()?;
            match commit_link(staged, undo) {
                Err(StepError::Kernel { source, .. }) if staged.install.glob && has_vanished(&source) => {
                    vanished.push(staged.name.as_str());
                }
                other => other?,
            }
        }
        let replaces =
            |link| matches!(link, LinkWork::Update { .. } | LinkWork::Create { detach_first: true });
        if staged.iter().any(|s| replaces(s.install.link)) {
            // From here on no CPU runs an old program: the counters of replaced maps are final.
            match xdpd_kernel::rcu::wait_grace_period() {
                // Not to be had, as on nohz_full kernels: readers look at a retired map once more later on.
                Err(e) if [EINVAL, ENOSYS].contains(&e.errno()) => {}
                other => other.map_err(|source| StepError::Kernel {
                    what: "cannot wait for running programs".into(),
                    source,
                })?,
            }
        }
        for staged in staged.iter().filter(|s| !vanished.contains(&s.name.as_str())) {
            self.interrupt.check()?;
            self.commit_pins(staged, undo)?;
        }
        for leaving in leaving {
            self.interrupt.check()?;
            let old = format!("{OLD}{}", leaving.label.file_name());
            self.rename(leaving.label, leaving.directory, &old, undo)?;
        }
        Ok(())
    }

    /// Lets the new state be judged, where that was asked for. For that it must be all there: programs that go are
    /// detached now and not with the clean-up.
    fn try_out<'s>(&self, leaving: &'s [Leaving<'a>], undo: &mut Vec<Undo<'s, 'a>>) -> Result<(), StepError> {
        let Some(trial) = &self.trial else { return Ok(()) };
        for Leaving { label, held, .. } in leaving {
            let Some(Held { old, link, record }) = held else { continue };
            link.detach().map_err(at(label, "detach"))?;
            let (netns, ifindex) = (record.netns_name.as_deref(), IfIndex(record.ifindex));
            let modes = std::slice::from_ref(&record.mode);
            undo.push(Undo::Detach { label, old, place: Place { netns, ifindex, modes } });
        }
        trial.wait(self.root, self.interrupt)
    }

    fn commit_pins<'s>(&self, staged: &'s Staged<'a>, undo: &mut Vec<Undo<'s, 'a>>) -> Result<(), StepError> {
        let name = staged.label.file_name();
        match &staged.install.replaces {
            Some(old) if *old == name => {
                self.root.exchange(&staged.name, &name).map_err(at(staged.label, "swap the pins"))?;
                undo.push(Undo::Exchange { a: staged.name.clone(), b: name });
                Ok(())
            }
            Some(old) => {
                self.rename(staged.label, &staged.name, &name, undo)?;
                self.rename(staged.label, old, &format!("{OLD}{old}"), undo)
            }
            None => self.rename(staged.label, &staged.name, &name, undo),
        }
    }

    fn rename(
        &self,
        label: &Label,
        from: &str,
        to: &str,
        undo: &mut Vec<Undo<'_, '_>>,
    ) -> Result<(), StepError> {
        self.root.rename_noreplace(from, to).map_err(at(label, "move its pins"))?;
        undo.push(Undo::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    /// Takes the commit back, last step first. Goes on after an error, and tells all of them.
    fn undo(&self, undo: Vec<Undo<'_, '_>>) -> Vec<String> {
        let mut problems = Vec::new();
        for step in undo.into_iter().rev() {
            let (what, result) = match step {
                Undo::Exchange { a, b } => (format!("swap {a} and {b} back"), self.root.exchange(&a, &b)),
                Undo::Rename { from, to } => {
                    (format!("rename {to} back to {from}"), self.root.rename_noreplace(&to, &from))
                }
                Undo::Update { staged, link } => {
                    let old = staged.old.as_ref().and_then(|o| o.program.as_ref());
                    let result = old.map_or(Ok(()), |old| link.update(old, &staged.program));
                    (format!("{}: put the old program back", staged.label), unless_vanished(result))
                }
                Undo::Create { staged, link } => {
                    let unpinned = match staged.dir.unlink(LINK_PIN) {
                        Err(e) if e.errno() != ENOENT => Err(e),
                        _ => Ok(()),
                    };
                    let detached = link.detach();
                    (format!("{}: detach the new program", staged.label), unpinned.and(detached))
                }
                Undo::Takeover { staged } => (
                    format!("{}: attach the other's program again", staged.label),
                    give_back(self.root, &taken_name(staged.label)),
                ),
                Undo::Detach { label, old, place } => {
                    (format!("{label}: attach the old program again"), unless_vanished(reattach(old, place)))
                }
            };
            if let Err(e) = result {
                problems.push(format!("{what}: {e}"));
            }
        }
        problems
    }

    /// The stats map of a stage that ran and was rolled back has counted packets: it stays as a retired map.
    fn keep_counts(&self, staged: &Staged<'_>) -> Result<(), String> {
        let map = &self.desired.stats_map;
        let (Some(MapWork::Create), Some(old), Some(id), Some(directory)) = (
            staged.install.maps.get(map),
            &staged.old,
            staged.record.maps.get(map),
            staged.install.replaces.as_ref(),
        ) else {
            return Ok(());
        };
        let name = retired::name(map, staged.install.generation, *id);
        let pinned = self.observed.interfaces.values().find(|p| p.directory == *directory);
        let retired = pinned.map(|p| &*p.retired).unwrap_or_default();
        let mut too_many = retired.iter().rev().skip(RETIRED_MAX - 1);
        let made_room = too_many.try_for_each(|oldest| old.dir.unlink(&oldest.pin));
        made_room.and_then(|()| old.dir.link(&staged.dir, map_pin(map), &name)).map_err(|e| {
            format!("{}: keep the counts of the program that was rolled back: {e}", staged.label)
        })
    }

    fn drop_stages(&self, plan: &Plan) -> Vec<String> {
        let mut problems = Vec::new();
        // Their links are those of running interfaces, or were detached when the commit was undone.
        let live = self.observed.interfaces.values().filter_map(|p| p.link.id()).collect();
        for (label, work) in plan.work() {
            let Work::Install(install) = work else { continue };
            let name = format!("{NEXT}{}", label.file_name());
            problems.extend(
                remove_directory(self.root, &name, &live).err().map(|e| format!("remove {name}: {e}")),
            );
            if install.takeover.is_some() {
                let name = taken_name(label);
                problems.extend(give_back(self.root, &name).err().map(|e| format!("give back {name}: {e}")));
            }
        }
        problems
    }

    /// Removes what was replaced or left; tells what could not be.
    fn clean_up(&self, staged: Vec<Staged<'a>>, leaving: Vec<Leaving<'a>>) -> Vec<String> {
        let mut problems = Vec::new();
        let live = self.live_links(&staged, &leaving);
        let mut remove = |name: &str| {
            if let Err(e) = remove_directory(self.root, name, &live) {
                problems.push(format!("remove {name}: {e}"));
            }
        };
        for staged in staged {
            remove(&staged.name);
            if staged.taken.is_some() {
                remove(&taken_name(staged.label));
            }
            if let Some(old) =
                staged.install.replaces.as_deref().filter(|old| *old != staged.label.file_name())
            {
                remove(&format!("{OLD}{old}"));
            }
        }
        for leaving in leaving {
            let name = format!("{OLD}{}", leaving.label.file_name());
            if let Err(e) = self.remove_interface(&name, leaving.label, &live) {
                problems.push(format!("remove {name}: {e}"));
            }
        }
        problems
    }

    /// Removes an interface that left. What others have put into its directory stays, in its place and without our
    /// record: foreign from now on.
    fn remove_interface(&self, name: &str, label: &Label, live: &LinkIds) -> Result<(), xdpd_kernel::Error> {
        let others = self.observed.interfaces.get(label).map(|p| &*p.others).unwrap_or_default();
        if others.is_empty() {
            return remove_directory(self.root, name, live);
        }
        let dir = self.root.open_dir(name)?;
        detach_link_in(&dir, live)?;
        empty(&dir, others)?;
        self.root.rename_noreplace(name, label.file_name())
    }

    /// The links that are in use after the commit: all but those of interfaces that left or were attached anew.
    fn live_links(&self, staged: &[Staged<'_>], leaving: &[Leaving<'_>]) -> LinkIds {
        let ended = |directory: &str| {
            leaving.iter().any(|l| l.directory == directory)
                || staged.iter().any(|s| {
                    matches!(s.install.link, LinkWork::Create { .. })
                        && s.install.replaces.as_deref() == Some(directory)
                })
        };
        let stay = self.observed.interfaces.values().filter(|p| !ended(&p.directory));
        stay.filter_map(|p| p.link.id()).collect()
    }
}

/// A kernel that refuses the types still takes the maps; only the names of their fields are missing then.
fn load_btf(types: &[u8]) -> Result<Option<Btf>, xdpd_kernel::Error> {
    match Btf::load(types) {
        Ok(btf) => Ok(Some(btf)),
        Err(e) if [EINVAL, E2BIG, EOPNOTSUPP].contains(&e.errno()) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Makes one interface run its new program.
fn commit_link<'s, 'a>(staged: &'s Staged<'a>, undo: &mut Vec<Undo<'s, 'a>>) -> Result<(), StepError> {
    let label = staged.label;
    match staged.install.link {
        LinkWork::Keep => Ok(()),
        LinkWork::Update { .. } => {
            let (Some(old), link) = (
                staged.old.as_ref().and_then(|o| o.program.as_ref()),
                staged.dir.open_link(LINK_PIN).map_err(pin_at(label, "open its link"))?,
            ) else {
                return Err(StepError::Verification(format!("{label}: nothing to update")));
            };
            link.update(&staged.program, old).map_err(at(label, "replace the program"))?;
            undo.push(Undo::Update { staged, link });
            Ok(())
        }
        LinkWork::Create { detach_first } => {
            let Install { netns, ifindex, modes, .. } = staged.install;
            let place = Place { netns: netns.as_deref(), ifindex: *ifindex, modes };
            if let Some(Taken { record, program }) = &staged.taken {
                let mode = mode::to_kernel(record.mode);
                let detach = |netns: NetNs| netns.run(|| netlink::detach_netlink(*ifindex, mode, program))?;
                undo.push(Undo::Takeover { staged });
                devices::open(netns.as_deref())
                    .and_then(detach)
                    .map_err(at(label, "detach the other's program"))?;
            }
            if detach_first
                && let Some(old) = &staged.old
                && let Some(link) = &old.link
            {
                link.detach().map_err(at(label, "detach to attach anew"))?;
                undo.push(Undo::Detach { label, old, place });
            }
            let (link, mode) = create_link(place, &staged.program).map_err(at(label, "attach"))?;
            let pinned = staged.dir.pin(LINK_PIN, &link).map_err(at(label, "pin the link"));
            undo.push(Undo::Create { staged, link });
            pinned?;
            if mode != staged.record.mode {
                let record = Record { mode, ..staged.record.clone() };
                // Written beside and renamed over: a record is there at every instant.
                staged.dir.symlink(record.format(), RECORD_BESIDE).map_err(at(label, "write the record"))?;
                staged.dir.rename(RECORD_BESIDE, OWNER_PIN).map_err(at(label, "write the record"))?;
            }
            Ok(())
        }
    }
}

/// The device, or its namespace, is no longer there.
fn has_vanished(error: &xdpd_kernel::Error) -> bool {
    match error.call() {
        "BPF_LINK_CREATE" | "BPF_LINK_UPDATE" | "RTM_SETLINK" => [ENODEV, ENOLINK].contains(&error.errno()),
        // Of a namespace.
        "open" => error.errno() == ENOENT,
        _ => false,
    }
}

/// Without a device there is nothing that could be put back on it.
fn unless_vanished(result: Result<(), xdpd_kernel::Error>) -> Result<(), xdpd_kernel::Error> {
    result.or_else(|e| if has_vanished(&e) { Ok(()) } else { Err(e) })
}

/// Where someone else's program is kept whose place an interface takes.
fn taken_name(label: &Label) -> String {
    format!("{TAKEN}{}", label.file_name())
}

/// Attaches in the first mode that the device takes.
fn create_link(place: Place<'_>, program: &Program) -> Result<(XdpLink, Mode), xdpd_kernel::Error> {
    let netns = devices::open(place.netns)?;
    let create = |mode: Mode| {
        let kernel_mode = mode::to_kernel(mode);
        netns.run(|| XdpLink::create(program, place.ifindex, kernel_mode))?.map(|link| (link, mode))
    };
    let (first, rest) = place.modes.split_first().unwrap_or((&Mode::Native, &[]));
    let mut result = create(*first);
    for mode in rest {
        match &result {
            // What a driver says that cannot: no such mode, this MTU, this program in this mode.
            Err(e) if [EOPNOTSUPP, ERANGE, EINVAL].contains(&e.errno()) => result = create(*mode).or(result),
            _ => break,
        }
    }
    result
}

/// Makes the link anew that was detached, and puts it where its pin was. In the mode that the record tells, where it
/// does.
fn reattach(old: &Old, place: Place<'_>) -> Result<(), xdpd_kernel::Error> {
    let Old { dir, program: Some(program), .. } = old else { return Ok(()) };
    let mode = read_record(dir)?.map(|record| [record.mode]);
    let modes = mode.as_ref().map_or(place.modes, |mode| mode.as_slice());
    let (link, _) = create_link(Place { modes, ..place }, program)?;
    // The pin that is there holds a link that is detached. A crash between the two calls leaves the device without a
    // program, and not with a link that has a pin under a name that nobody looks for.
    match dir.unlink(LINK_PIN) {
        Err(e) if e.errno() != ENOENT => return Err(e),
        _ => {}
    }
    dir.pin(LINK_PIN, &link)
}

/// The record of a directory, `None` where it cannot be understood.
fn read_record(dir: &Dir) -> Result<Option<Record>, xdpd_kernel::Error> {
    Ok(dir.readlink(OWNER_PIN)?.to_str().and_then(|text| Record::parse(text).ok()))
}

fn pin_at<'l>(label: &'l Label, what: &'l str) -> impl FnOnce(PinError) -> StepError + 'l {
    move |error| match error {
        PinError::Kernel(source) => kernel(label, what, source),
        wrong @ PinError::WrongType { .. } => {
            StepError::Verification(format!("{label}: cannot {what}: {wrong}"))
        }
    }
}

fn at<'l>(label: &'l Label, what: &'l str) -> impl FnOnce(xdpd_kernel::Error) -> StepError + 'l {
    move |source| kernel(label, what, source)
}

fn kernel(label: &Label, what: &str, source: xdpd_kernel::Error) -> StepError {
    StepError::Kernel { what: format!("{label}: cannot {what}"), source }
}
