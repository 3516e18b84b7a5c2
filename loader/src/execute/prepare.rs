//! Everything that can fail, done beside the running state: nothing is attached here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;

use xdpd_config::record::Record;
use xdpd_config::{LINK_PIN, Label, Mode, OWNER_PIN, retired};
use xdpd_kernel::{
    Btf, Device, Dir, IfIndex, LinkInfo, Map, MapId, Program, ProgramId, XdpLink, clock, netlink, open_files,
};

use super::directories::{open_link_if_any, read_record};
use super::error::at;
use super::slots;
use super::takeover::taken_name;
use super::{DIR_MODE, Executor, Held, Leaving, Old, Staged, StepError};
use crate::desired::Instance;
use crate::devices;
use crate::engine::Engine;
use crate::globals;
use crate::inner_map;
use crate::observed::{NEXT, OtherKind, Taken, map_pin};
use crate::plan::{Install, LinkWork, MapWork, Plan, ProgramWork, Takeover, Work};

/// A retired map is kept at least this long for readers, in seconds.
const RETIRED_SECONDS: u64 = 60;

impl<'a, E: Engine> Executor<'a, E> {
    pub(super) fn prepare_all(
        &mut self,
        plan: &'a Plan,
        staged: &mut Vec<Staged<'a>>,
        leaving: &mut Vec<Leaving<'a>>,
    ) -> Result<(), StepError> {
        let mut btf = BTreeMap::new();
        for (label, work) in plan.work() {
            self.interrupt.check()?;
            self.check_open_files(staged.len() + leaving.len() + 1)?;
            match work {
                Work::Install(install) => staged.push(self.prepare(label, install, &mut btf)?),
                Work::Entries => {}
                Work::Remove { directory } => {
                    self.check_link(label, directory)?;
                    let held = self.trial.map(|_| self.hold(label, directory)).transpose()?.flatten();
                    leaving.push(Leaving { label, directory, held });
                }
            }
        }
        self.interrupt.check()?;
        Ok(())
    }

    /// Whether as many files may be opened as so many interfaces take from here on. So that it is found out here: for
    /// each a link, and what keeps its counts if all is taken back; beside that, what one step needs at a time.
    fn check_open_files(&self, interfaces: usize) -> Result<(), StepError> {
        const EACH: u64 = 4;
        const AT_A_TIME: u64 = 96;
        let room = open_files::room(self.root).map_err(|source| StepError::Kernel {
            what: "cannot tell how many files may be opened".into(),
            source,
        })?;
        let missing = (EACH * interfaces as u64 + AT_A_TIME).saturating_sub(room);
        if missing > 0 { Err(StepError::OpenFiles { missing }) } else { Ok(()) }
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
        let grants = self.stage_permissions(label, install, &dir)?;
        let program = match install.program {
            ProgramWork::Keep(id) => {
                Program::open_by_id(id).map_err(at(label, "open the running program"))?
            }
            ProgramWork::Load => self.load_all(label, instance, &dir)?,
        };
        let info = program.info().map_err(at(label, "read the loaded program"))?;
        let mut record = Record {
            version: 1,
            generation: install.generation,
            config: self.desired.config.clone(),
            device: install.device.clone(),
            ifindex: install.ifindex.0,
            netns: (install.netns_id.dev, install.netns_id.ino),
            netns_name: install.netns.clone(),
            mode: *install.modes.first().unwrap_or(&Mode::Native),
            object: instance.digest.clone(),
            globals: instance.globals.digest(),
            values: instance.globals.recorded(),
            function: instance.function.clone(),
            program: info.id.0,
            attach_type: instance.attach_type,
            maps,
            inner: instance
                .maps
                .iter()
                .filter_map(|(name, map)| Some((name.clone(), inner_map::recorded(&map.spec)?)))
                .collect(),
            base: self.bases(install, &kept),
            retired: kept,
        };
        while record.format().len() > Record::MAX_LEN && globals::shorten(&mut record.values) {}
        let text = record.format();
        if text.len() > Record::MAX_LEN {
            return Err(StepError::Verification(format!(
                "{label}: its record would have {} bytes, a symlink holds {}; fewer maps and globals, or shorter \
                 names and paths",
                text.len(),
                Record::MAX_LEN
            )));
        }
        dir.symlink(text, OWNER_PIN).map_err(at(label, "write the record"))?;
        let taken = install.takeover.map(|takeover| self.keep_taken(label, takeover, &record)).transpose()?;
        // Last, so that little happens meanwhile that is to be settled.
        let carried = self.carry_entries(label, install, instance, &dir, old.as_ref())?;
        Ok(Staged { label, install, name, dir, program, record, old, grants, taken, carried })
    }

    /// A removal detaches by the pinned link. Where that is missing, the program must not run: it would go on without a
    /// record that tells whose it is.
    fn check_link(&self, label: &Label, directory: &str) -> Result<(), StepError> {
        let Some(pinned) = self.observed.pinned_in(directory) else { return Ok(()) };
        let (None, Ok(record)) = (pinned.link.id(), &pinned.record) else { return Ok(()) };
        // What was relabelled runs on under another label.
        let program = Some(ProgramId(record.program));
        if self.observed.interfaces.values().any(|other| other.link.program() == program) {
            return Ok(());
        }
        let failed = || at(label, "look whether its program still runs");
        let Some(netns) = devices::netns_of(record).map_err(failed())? else { return Ok(()) };
        let devices = netns.run(netlink::devices).and_then(|devices| devices).map_err(failed())?;
        let runs =
            |device: &&Device| device.xdp.iter().any(|attached| attached.program_id.0 == record.program);
        let Some(device) = devices.iter().find(runs) else { return Ok(()) };
        let links = XdpLink::all_xdp().map_err(failed())?;
        let holds =
            |link: &&LinkInfo| link.program_id.0 == record.program && link.ifindex() == Some(device.ifindex);
        let link = links.iter().find(holds).map_or_else(
            || "no bpf_link holds it".to_owned(),
            |link| format!("bpf_link {0} holds it, `bpftool link detach id {0}` detaches it", link.id),
        );
        Err(StepError::Verification(format!(
            "{label}: {} holds no link, yet its program {} still runs on {}; {link}",
            self.root.path_of(directory).display(),
            record.program,
            device.name
        )))
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
        let is_outer = |name: &str| instance.maps.get(name).is_some_and(|map| map.spec.inner().is_some());
        // Maps of maps come last, since they are filled with others.
        let (outer, others): (Vec<_>, Vec<_>) = install.maps.iter().partition(|(name, _)| is_outer(name));
        for (name, work) in others.into_iter().chain(outer) {
            let pin = map_pin(name);
            let id = match (work, old) {
                (MapWork::Keep(id), Some(old)) if self.is_open_to_root(install, &pin) => {
                    dir.link(&old.dir, &pin, &pin).map_err(at(label, "keep a map's pin"))?;
                    *id
                }
                (MapWork::Keep(id) | MapWork::Repin(id), _) => {
                    let map = Map::open_by_id(*id).map_err(at(label, "open a map by its id"))?;
                    dir.pin(&pin, &map).map_err(at(label, "pin a map"))?;
                    *id
                }
                (MapWork::Create | MapWork::Migrate(_), _) => {
                    self.create_map(label, instance, name, dir, btf)?
                }
            };
            ids.insert(name.clone(), id.0);
        }
        Ok(ids)
    }

    /// Whether the engine can open a pin as it is. One of somebody else's permissions is made anew, for the same map.
    fn is_open_to_root(&self, install: &Install, pin: &str) -> bool {
        let old = install.replaces.as_deref().and_then(|directory| self.observed.pinned_in(directory));
        let permissions = old.and_then(|pinned| pinned.permissions.pins.get(pin));
        permissions.is_none_or(|permissions| permissions.is_open_to_root())
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
        let spec =
            instance.maps.get(name).map(|map| &map.spec).ok_or_else(|| {
                StepError::Verification(format!("{label}: map {name} is not in the object"))
            })?;
        let btf = match btf.entry(instance.digest.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let types = object.and_then(|o| o.btf()).map(load_btf).transpose();
                new.insert(types.map_err(at(label, "load the types of its maps"))?.flatten())
            }
        };
        let map = slots::create(name, spec, btf.as_ref()).map_err(at(label, &format!("make map {name}")))?;
        slots::fill(label, name, &map, spec, dir)?;
        if let Some(content) = object.and_then(|o| instance.globals.content(o, name)) {
            map.update(&0u32.to_ne_bytes(), &content, 0).map_err(at(label, "fill a data section's map"))?;
        }
        if let Some(declared) = instance.maps.get(name).and_then(|map| map.entries.as_ref()) {
            self.fill_new(label, name, &map, declared)?;
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
        let Some(pinned) = self.observed.pinned_in(directory) else {
            return Ok(kept);
        };
        for other in pinned.others.iter().filter(|o| o.what != OtherKind::Directory) {
            dir.link(&old.dir, &other.name, &other.name).map_err(at(label, "carry a pin over"))?;
        }
        let now = clock::boottime().as_secs();
        let since = pinned.record.as_ref().map(|r| r.retired.clone()).unwrap_or_default();
        let room = retired::MAX - usize::from(install.retire.is_some());
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
            values: BTreeMap::new(),
            maps: BTreeMap::new(),
            inner: BTreeMap::new(),
            retired: BTreeMap::new(),
            ..ours.clone()
        };
        let taken = Taken { record, program };
        taken.write(self.root, &taken_name(label)).map_err(at(label, "keep the other's program"))?;
        Ok(taken)
    }
}

/// A kernel that refuses the types still takes the maps; only the names of their fields are missing then.
fn load_btf(types: &[u8]) -> Result<Option<Btf>, xdpd_kernel::Error> {
    Btf::load_if_accepted(types)
}
