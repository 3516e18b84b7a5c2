//! The plan: what would make the kernel match the file. A pure function of the desired and the observed state.
//!
//! [`plan`] decides everything that `apply` does, and `diff` prints the same value: there is no second opinion. Each
//! interface gets the changes that people and tools read, and the [`Work`] that the executor carries out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use xdpd_config::escape::escape;
use xdpd_config::record::Record;
use xdpd_config::{Label, Mode, Reuse};
use xdpd_kernel::map::{MapDef, map_type_name};
use xdpd_kernel::netlink::Device;
use xdpd_kernel::{IfIndex, MapId, NetNsId, ProgramId};

use crate::desired::{Attachment, Desired, DesiredMap, Instance};
use crate::devices::{Devices, Space};
use crate::mode;
use crate::object::{Field, Layout, MapSpec};
use crate::observed::{Interrupted, LinkState, Observed, OtherKind, Pinned, PinnedMap, Root};

/// What an apply would do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The interfaces that change or are blocked.
    pub interfaces: BTreeMap<Label, InterfacePlan>,
    /// How many interfaces of the file are as it says.
    pub unchanged: usize,
    /// Where the kernel is not as our own record says.
    pub drift: Vec<Drift>,
    /// What an interrupted run left, to be settled first.
    pub interrupted: Vec<Interrupted>,
    /// A bpffs must be mounted first.
    pub mount: bool,
}

/// The changes of one interface.
#[derive(Debug, Clone, PartialEq)]
pub struct InterfacePlan {
    /// What happens to the interface as a whole.
    pub verdict: Verdict,
    /// What people and tools read, in order of execution.
    pub changes: Vec<Change>,
    /// What the executor does; `None` where the interface is blocked.
    pub work: Option<Work>,
}

/// What happens to an interface as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is new.
    Add,
    /// It is there and changes.
    Change,
    /// It left the file.
    Remove,
    /// It cannot be done; so nothing is done.
    Blocked,
}

/// One change of one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What of the interface.
    pub address: Address,
    /// What happens to it.
    pub action: Action,
    /// Why, in words, with what is lost.
    pub reason: Option<String>,
    /// As it is.
    pub before: Option<Facts>,
    /// As it will be.
    pub after: Option<Facts>,
    /// Why it cannot be done, and what to do.
    pub blocked_by: Option<String>,
}

/// The part of an interface that changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// The program.
    Program,
    /// The mode it is attached in.
    Mode,
    /// The link that attaches it.
    Link,
    /// A map.
    Map(String),
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Create,
    /// It changes in place.
    Update,
    /// It goes.
    Delete,
    /// It goes, and another comes in its place.
    Replace,
}

/// What is known of a thing before or after a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Facts {
    /// Of a program.
    Program {
        /// `builtin` or the path of the object.
        #[serde(skip_serializing_if = "Option::is_none")]
        object: Option<String>,
        /// Digest of the object.
        digest: String,
        /// The function that runs.
        function: String,
        /// Program id; unknown before it is loaded.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
    },
    /// Of a mode.
    Mode {
        /// The mode.
        mode: Mode,
    },
    /// Of a link.
    Link {
        /// Name of the device.
        device: String,
        /// Its index.
        #[serde(skip_serializing_if = "Option::is_none")]
        ifindex: Option<u32>,
        /// Its namespace as the file names it.
        netns: Option<String>,
        /// Modes that are tried in order, or the one it has.
        modes: Vec<Mode>,
        /// Path of the config that owns the interface, where that is what changes.
        #[serde(skip_serializing_if = "Option::is_none")]
        config: Option<String>,
    },
    /// Of a map.
    Map {
        /// Name of the type, as bpftool spells it.
        #[serde(rename = "type")]
        kind: &'static str,
        /// Bytes.
        key_size: u32,
        /// Bytes.
        value_size: u32,
        /// Number of entries.
        max_entries: u32,
        /// Flags of creation.
        flags: u32,
        /// Map id; unknown before it is made.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
    },
}

/// A difference between our record and the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The interface.
    pub interface: String,
    /// What is not as it was left.
    pub what: String,
}

/// What the executor does with an interface.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Put it together anew beside what is there, then swap.
    Install(Install),
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
    /// It was matched by a glob: when it vanishes meanwhile, that is no failure.
    pub glob: bool,
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

impl Plan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.interfaces.is_empty() && self.interrupted.is_empty()
    }

    /// Some interface cannot be done.
    pub fn is_blocked(&self) -> bool {
        self.count(Verdict::Blocked) > 0
    }

    /// Every reason for which the plan cannot be carried out, `LABEL: WHY`.
    pub fn blocks(&self) -> impl Iterator<Item = String> {
        let changes = self.interfaces.iter().flat_map(|(label, i)| i.changes.iter().map(move |c| (label, c)));
        changes.filter_map(|(label, change)| Some(format!("{label}: {}", change.blocked_by.as_ref()?)))
    }

    /// How many interfaces have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.interfaces.values().filter(|i| i.verdict == verdict).count()
    }

    /// The interfaces that change.
    pub fn work(&self) -> impl Iterator<Item = (&Label, &Work)> {
        self.interfaces.iter().filter_map(|(label, i)| Some((label, i.work.as_ref()?)))
    }
}

/// The pinned interfaces whose program would be loaded anew: those for which the layout of maps matters. An interface
/// that continues another label is meant by that one's.
pub fn reloads(desired: &Desired, observed: &Observed) -> BTreeSet<Label> {
    let reloaded = desired.attachments.iter().filter_map(|(label, attachment)| {
        let (from, pinned) = predecessor(label, attachment, desired, observed)?;
        let instance = desired.instances.get(&attachment.instance)?;
        (!reload_reasons(instance, pinned).is_empty()).then(|| from.clone())
    });
    reloaded.collect()
}

/// Computes the plan.
pub fn plan(desired: &Desired, observed: &Observed, allow: Allow) -> Plan {
    let mut plan = Plan {
        interrupted: observed.interrupted.clone(),
        mount: observed.root == Root::Mountable,
        ..Plan::default()
    };
    let mut moved = BTreeSet::new();
    for (label, attachment) in &desired.attachments {
        let Some(instance) = desired.instances.get(&attachment.instance) else { continue };
        let (from, pinned) = predecessor(label, attachment, desired, observed).unzip();
        moved.extend(from.filter(|from| *from != label));
        let planner = Planner { desired, observed, allow, label, attachment, instance, pinned, from };
        if let Some(pinned) = pinned {
            plan.drift.extend(drift(label, pinned, &observed.devices));
        }
        match planner.plan() {
            Some(interface) => drop(plan.interfaces.insert(label.clone(), interface)),
            None => plan.unchanged += 1,
        }
    }
    for (label, pinned) in &observed.interfaces {
        let ours = pinned.record.as_ref().is_ok_and(|r| r.config == desired.config);
        if ours && !desired.attachments.contains_key(label) && !moved.contains(label) {
            plan.drift.extend(drift(label, pinned, &observed.devices));
            plan.interfaces.insert(label.clone(), removal(pinned));
        }
    }
    plan
}

/// The pins that an interface of the file continues: those of its label, or those of a label that left the file while
/// its link is on the device. So a renamed label, or a renamed device under a glob, changes hands without a gap.
fn predecessor<'a>(
    label: &'a Label,
    attachment: &Attachment,
    desired: &Desired,
    observed: &'a Observed,
) -> Option<(&'a Label, &'a Pinned)> {
    if let Some(pinned) = observed.interfaces.get(label) {
        return Some((label, pinned));
    }
    let device = observed.devices.device(attachment.netns.as_deref(), &attachment.device)?;
    observed.interfaces.iter().find(|(other, pinned)| {
        !desired.attachments.contains_key(*other)
            && pinned.record.as_ref().is_ok_and(|r| r.config == desired.config)
            && pinned.runs_on(device)
    })
}

/// The plan of taking an interface away.
pub fn removal(pinned: &Pinned) -> InterfacePlan {
    let mut changes = Vec::new();
    let others: Vec<String> = pinned.others.iter().map(|o| format!("`{}`", o.name.display())).collect();
    if let Ok(record) = &pinned.record {
        changes.push(Change {
            reason: (!others.is_empty())
                .then(|| format!("left in place, since it is not xdpd's: {}", others.join(", "))),
            before: Some(program_facts(record, pinned.link.program())),
            ..Change::new(Address::Program, Action::Delete)
        });
        changes.push(Change {
            before: Some(Facts::Link {
                device: record.device.clone(),
                ifindex: Some(record.ifindex),
                netns: record.netns_name.clone(),
                modes: vec![record.mode],
                config: None,
            }),
            ..Change::new(Address::Link, Action::Delete)
        });
    }
    for (name, map) in &pinned.maps {
        changes.push(Change {
            reason: Some("its content is lost".into()),
            before: Some(map_facts(&map.def, Some(map.id))),
            ..Change::new(Address::Map(name.clone()), Action::Delete)
        });
    }
    let work = Some(Work::Remove { directory: pinned.directory.clone() });
    InterfacePlan { verdict: Verdict::Remove, changes, work }
}

/// Where the kernel is not as the record of an interface says.
pub fn drift(label: &Label, pinned: &Pinned, devices: &Devices) -> Vec<Drift> {
    let Ok(record) = &pinned.record else { return Vec::new() };
    let mut found = Vec::new();
    let mut add = |what: String| found.push(Drift { interface: label.to_string(), what });
    match &pinned.link {
        LinkState::Missing => add("the link's pin is gone, so nothing keeps the program attached".into()),
        LinkState::NotALink(what) => add(format!("the pin of the link is {what}")),
        LinkState::Defunct { .. } => {
            let is_there =
                devices.iter().any(|(_, d)| d.ifindex.0 == record.ifindex && d.name == record.device);
            add(if is_there {
                format!("the link is detached from device {}", record.device)
            } else {
                format!("device {} (ifindex {}) is gone", record.device, record.ifindex)
            });
        }
        LinkState::Live { program, ifindex, .. } => {
            if program.0 != record.program {
                add(format!("program {program} runs, not {} that was loaded", record.program));
            }
            if ifindex.0 != record.ifindex {
                add(format!("the link is on ifindex {ifindex}, it was attached on {}", record.ifindex));
            }
        }
    }
    for (name, id) in &record.maps {
        match pinned.maps.get(name) {
            None => add(format!("the pin of map {name} is gone")),
            Some(map) if map.id.0 != *id => {
                add(format!("the pin of map {name} holds map {}, not {id}", map.id));
            }
            Some(_) => {}
        }
    }
    found
}

/// Why the program of an interface is loaded anew; empty where it is kept.
fn reload_reasons(instance: &Instance, pinned: &Pinned) -> Vec<String> {
    let Ok(record) = &pinned.record else { return Vec::new() };
    let mut reasons = Vec::new();
    if record.object != instance.digest {
        reasons.push(format!("object {} -> {}", short(&record.object), short(&instance.digest)));
    }
    if record.function != instance.function {
        reasons.push(format!("function {} -> {}", record.function, instance.function));
    }
    if record.globals.is_some() {
        reasons.push("globals are no longer set".into());
    }
    match &pinned.link {
        LinkState::Missing | LinkState::NotALink(_) => reasons.push("the program no longer runs".into()),
        LinkState::Defunct { program, .. } | LinkState::Live { program, .. }
            if program.0 != record.program =>
        {
            reasons.push(format!("program {program} runs, which xdpd has not loaded"));
        }
        LinkState::Defunct { .. } | LinkState::Live { .. } => {}
    }
    if !instance.maps.keys().eq(record.maps.keys()) && reasons.is_empty() {
        reasons.push("its maps are not those of the object".into());
    }
    reasons
}

/// `sha256:0123456789ab…` is enough for people.
fn short(digest: &str) -> String {
    digest.split_once(':').map_or_else(
        || digest.to_owned(),
        |(kind, hex)| format!("{kind}:{}", hex.chars().take(12).collect::<String>()),
    )
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    allow: Allow,
    label: &'a Label,
    attachment: &'a Attachment,
    instance: &'a Instance,
    /// The pins it continues, and the label they have.
    pinned: Option<&'a Pinned>,
    from: Option<&'a Label>,
}

impl Planner<'_> {
    fn plan(&self) -> Option<InterfacePlan> {
        let pinned = self.pinned;
        if let Some(reason) = self.blocked() {
            return Some(self.refusal(reason));
        }
        let Space::Present { id: netns_id, .. } = self.observed.devices.space(self.netns()) else {
            return None;
        };
        let device = self.observed.devices.device(self.netns(), &self.attachment.device)?;
        let mut changes = Vec::new();
        let (program, reasons) = match pinned {
            None => (ProgramWork::Load, Vec::new()),
            Some(p) => match (reload_reasons(self.instance, p), p.link.program()) {
                (reasons, Some(id)) if reasons.is_empty() => (ProgramWork::Keep(id), reasons),
                (reasons, _) => (ProgramWork::Load, reasons),
            },
        };
        if program == ProgramWork::Load {
            changes.push(self.program_change(&reasons));
        }
        let (link, modes) = self.link(device, program, &mut changes);
        let takeover = self.takeover(device);
        if let Some(takeover) = takeover {
            self.announce(takeover, &mut changes);
        }
        let maps = self.maps(program, &mut changes);
        self.ownership(&mut changes);
        if !changes.iter().any(|c| c.address == Address::Link) {
            changes.extend(self.moved(device, *netns_id, &modes));
        }
        if changes.is_empty() {
            return None;
        }
        if changes.iter().any(|c| c.blocked_by.is_some()) {
            return Some(InterfacePlan { verdict: Verdict::Blocked, changes, work: None });
        }
        let (retire, generation) = self.retirement(&maps);
        let install = Install {
            replaces: pinned.map(|p| p.directory.clone()),
            device: device.name.clone(),
            ifindex: device.ifindex,
            glob: self.attachment.glob,
            netns: self.attachment.netns.clone(),
            netns_id: *netns_id,
            modes,
            program,
            link,
            takeover,
            maps,
            retire,
            generation,
        };
        let verdict = if pinned.is_some() { Verdict::Change } else { Verdict::Add };
        Some(InterfacePlan { verdict, changes, work: Some(Work::Install(install)) })
    }

    fn netns(&self) -> Option<&str> {
        self.attachment.netns.as_deref()
    }

    /// What makes any change of this interface impossible.
    fn blocked(&self) -> Option<String> {
        let pinned = self.pinned;
        if let Space::Absent(why) = self.observed.devices.space(self.netns()) {
            return Some(format!("network namespace `{}`: {why}", self.netns().unwrap_or("of xdpd")));
        }
        let name = &self.attachment.device;
        let Some(device) = self.observed.devices.device(self.netns(), name) else {
            let place =
                self.netns().map_or_else(|| "this network namespace".into(), |n| format!("netns `{n}`"));
            let known =
                self.observed.devices.iter().filter(|(n, _)| *n == self.netns()).map(|(_, d)| &*d.name);
            let hint = xdpd_config::suggest(name, known)
                .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            return Some(format!("no device `{name}` in {place}{hint}"));
        };
        if let Some(problem) = self.observed.root.problem(&self.desired.pin_root) {
            return Some(problem);
        }
        if let Some(pinned) = pinned {
            let record = match &pinned.record {
                Ok(record) => record,
                Err(why) => {
                    return Some(format!("the record of {} cannot be read: {why}", pinned.directory));
                }
            };
            if record.config != self.desired.config && !self.allow.adopt {
                return Some(format!(
                    "the interface belongs to {}; apply with --adopt to take it over",
                    record.config.display()
                ));
            }
            if let Some(other) = pinned.others.iter().find(|o| o.what == OtherKind::Directory) {
                return Some(format!(
                    "directory `{}` in {} is not xdpd's and cannot be carried over; remove it",
                    other.name.display(),
                    pinned.directory
                ));
            }
            let holder = |map: &String| pinned.others.iter().find(|o| o.name.to_str() == Some(&*escape(map)));
            if let Some((map, other)) = self.instance.maps.keys().find_map(|m| Some((m, holder(m)?))) {
                return Some(format!(
                    "the pin `{map}` in {} is {}, not a map; remove it",
                    pinned.directory, other.what
                ));
            }
        }
        if pinned.is_none() {
            let taken = |f: &&crate::observed::ForeignPin| f.name == self.label.file_name();
            if let Some(foreign) = self.observed.foreign.iter().find(taken) {
                return Some(format!(
                    "{}/{} is {}; move it away, or choose another pin_root",
                    self.desired.pin_root.display(),
                    foreign.name,
                    foreign.what
                ));
            }
        }
        if self.takeover(device).is_some() { None } else { self.foreign_program(device) }
    }

    /// The program of someone else's that the operator allows to replace. Only one that is attached through netlink: a
    /// link is its owner's.
    fn takeover(&self, device: &Device) -> Option<Takeover> {
        let [attached] = &*device.xdp else { return None };
        let foreign = self.observed.foreign_programs.get(&attached.program_id)?;
        let takeover = Takeover { program: attached.program_id, mode: mode::of_kernel(attached.mode) };
        (self.allow.takeover && foreign.link.is_none()).then_some(takeover)
    }

    /// Someone else's program on the device. Programs that other interfaces of this config hold there count too,
    /// unless those interfaces are going.
    fn foreign_program(&self, device: &Device) -> Option<String> {
        let mine = self.pinned.and_then(|p| p.link.program());
        let attached = device.xdp.iter().find(|a| Some(a.program_id) != mine)?;
        let holder = self.observed.interfaces.iter().find(|(label, p)| {
            *label != self.label && p.runs_on(device) && p.link.program() == Some(attached.program_id)
        });
        let mode = mode::of_kernel(attached.mode);
        match (holder, self.observed.foreign_programs.get(&attached.program_id)) {
            (Some((label, holder)), _) => Some(match &holder.record {
                Ok(record) if record.config != self.desired.config => format!(
                    "interface `{label}` of {} holds device {} in {mode} mode; detach it there first",
                    record.config.display(),
                    device.name
                ),
                _ => format!(
                    "interface `{label}` holds device {} in {mode} mode; remove one of the two and apply, then add \
                     the other",
                    device.name
                ),
            }),
            (None, Some(foreign)) => {
                let or = if foreign.link.is_none() { ", or apply with --takeover" } else { "" };
                Some(format!(
                    "{} runs someone else's {foreign}, id {}, in {mode} mode; detach it first{or}",
                    device.name, attached.program_id
                ))
            }
            (None, None) => Some(format!(
                "{} runs someone else's program, id {}, in {mode} mode; detach it first",
                device.name, attached.program_id
            )),
        }
    }

    fn refusal(&self, why: String) -> InterfacePlan {
        let action = if self.pinned.is_some() { Action::Update } else { Action::Create };
        let change = Change {
            blocked_by: Some(why),
            after: Some(self.link_facts(None, self.attachment.modes.clone())),
            ..Change::new(Address::Link, action)
        };
        InterfacePlan { verdict: Verdict::Blocked, changes: vec![change], work: None }
    }

    /// A takeover is told where the link is made that it makes room for.
    fn announce(&self, takeover: Takeover, changes: &mut [Change]) {
        let Some(foreign) = self.observed.foreign_programs.get(&takeover.program) else { return };
        let gap = format!(
            "takes the place of someone else's {foreign}, id {}, in {} mode (--takeover): a short gap, packets pass \
             unprocessed",
            takeover.program, takeover.mode
        );
        for link in changes.iter_mut().filter(|c| c.address == Address::Link) {
            link.reason = Some(link.reason.take().map_or(gap.clone(), |reason| format!("{reason}; {gap}")));
        }
    }

    /// A change of owner is one of the link; where the link changes anyway, it is told there.
    fn ownership(&self, changes: &mut Vec<Change>) {
        let owner = self.pinned.and_then(|p| p.record.as_ref().ok()).map(|r| &r.config);
        let Some(owner) = owner.filter(|owner| **owner != self.desired.config) else { return };
        match changes.iter_mut().find(|c| c.address == Address::Link) {
            None => changes.push(self.adoption()),
            Some(link) => {
                let adopted = format!("taken over from {} (--adopt)", owner.display());
                link.reason =
                    Some(link.reason.take().map_or(adopted.clone(), |reason| format!("{adopted}; {reason}")));
            }
        }
    }

    /// The link stays, and what the record says of its place does not: another label, or a device that was renamed or
    /// moved to another namespace.
    fn moved(&self, device: &Device, netns_id: NetNsId, modes: &[Mode]) -> Option<Change> {
        let record = self.pinned?.record.as_ref().ok()?;
        let after = self.link_facts(Some(device.ifindex), modes.to_vec());
        let before = Facts::Link {
            device: record.device.clone(),
            ifindex: Some(record.ifindex),
            netns: record.netns_name.clone(),
            modes: modes.to_vec(),
            config: None,
        };
        let reason = match self.from.filter(|from| *from != self.label) {
            Some(from) => format!("continues interface `{from}`, which left the file, on the same device"),
            None if record.netns != (netns_id.dev, netns_id.ino) || before != after => {
                "the device has another name or place since; the program stays attached".to_owned()
            }
            None => return None,
        };
        Some(Change {
            reason: Some(reason),
            before: Some(before),
            after: Some(after),
            ..Change::new(Address::Link, Action::Update)
        })
    }

    fn adoption(&self) -> Change {
        let config = |path: &std::path::Path| Facts::Link {
            device: self.attachment.device.clone(),
            ifindex: None,
            netns: self.attachment.netns.clone(),
            modes: self.attachment.modes.clone(),
            config: Some(path.display().to_string()),
        };
        let before = self.pinned.and_then(|p| p.record.as_ref().ok()).map(|r| config(&r.config));
        Change {
            reason: Some("taken over from another config (--adopt)".into()),
            before,
            after: Some(config(&self.desired.config)),
            ..Change::new(Address::Link, Action::Update)
        }
    }

    fn program_change(&self, reasons: &[String]) -> Change {
        let pinned = self.pinned;
        let after = Facts::Program {
            object: Some(self.instance.object.clone()),
            digest: self.instance.digest.clone(),
            function: self.instance.function.clone(),
            id: None,
        };
        let action = if pinned.is_some() { Action::Update } else { Action::Create };
        Change {
            reason: (!reasons.is_empty()).then(|| reasons.join(", ")),
            before: pinned.and_then(|p| Some(program_facts(p.record.as_ref().ok()?, p.link.program()))),
            after: Some(after),
            ..Change::new(Address::Program, action)
        }
    }

    fn link_facts(&self, ifindex: Option<IfIndex>, modes: Vec<Mode>) -> Facts {
        Facts::Link {
            device: self.attachment.device.clone(),
            ifindex: ifindex.map(|i| i.0),
            netns: self.attachment.netns.clone(),
            modes,
            config: None,
        }
    }

    fn link(
        &self,
        device: &Device,
        program: ProgramWork,
        changes: &mut Vec<Change>,
    ) -> (LinkWork, Vec<Mode>) {
        let pinned = self.pinned;
        let modes = self.attachment.modes.clone();
        let after = self.link_facts(Some(device.ifindex), modes.clone());
        let create = |action, reason: Option<String>, before, changes: &mut Vec<Change>| {
            changes.push(Change {
                reason,
                before,
                after: Some(after.clone()),
                ..Change::new(Address::Link, action)
            });
        };
        let Some(pinned) = pinned else {
            create(Action::Create, None, None, changes);
            return (LinkWork::Create { detach_first: false }, modes);
        };
        let record = pinned.record.as_ref().ok();
        let before = record.map(|r| Facts::Link {
            device: r.device.clone(),
            ifindex: Some(r.ifindex),
            netns: r.netns_name.clone(),
            modes: vec![r.mode],
            config: None,
        });
        let running = match pinned.link {
            LinkState::Live { program, ifindex, .. } if ifindex == device.ifindex => {
                // An index alone may be that of a device in another namespace; the program's id is not.
                device
                    .xdp
                    .iter()
                    .find(|a| a.program_id == program)
                    .map(|a| (program, mode::of_kernel(a.mode)))
            }
            _ => None,
        };
        let Some((expected, mode)) = running else {
            let (action, reason) = match pinned.link {
                LinkState::Missing | LinkState::NotALink(_) => {
                    (Action::Create, "nothing is attached".to_owned())
                }
                LinkState::Defunct { .. } if record.is_some_and(|r| r.ifindex == device.ifindex.0) => {
                    (Action::Replace, "the link was detached from the device".to_owned())
                }
                LinkState::Defunct { .. } => (
                    Action::Replace,
                    format!("device {} was deleted and is there anew", self.attachment.device),
                ),
                LinkState::Live { ifindex, .. } => {
                    (Action::Replace, format!("the link is on another device (ifindex {ifindex})"))
                }
            };
            create(action, Some(reason), before, changes);
            return (LinkWork::Create { detach_first: false }, modes);
        };
        if modes.contains(&mode) {
            let declared = record.map_or(0, |r| r.attach_type);
            if program == ProgramWork::Load && declared != self.instance.attach_type {
                let gap = "programs with tail calls and others do not replace each other in place: detach and attach, \
                           a short gap, packets pass unprocessed";
                create(Action::Replace, Some(gap.to_owned()), before, changes);
                return (LinkWork::Create { detach_first: true }, vec![mode]);
            }
            let work = match program {
                ProgramWork::Load => LinkWork::Update { expected },
                ProgramWork::Keep(_) => LinkWork::Keep,
            };
            return (work, vec![mode]);
        }
        let wanted = modes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        changes.push(Change {
            reason: Some(format!("attached in {mode} mode, the file wants {wanted}")),
            before: Some(Facts::Mode { mode }),
            after: modes.first().map(|mode| Facts::Mode { mode: *mode }),
            ..Change::new(Address::Mode, Action::Update)
        });
        let gap =
            "a change of mode needs detach and attach: a short gap, packets pass unprocessed".to_owned();
        create(Action::Replace, Some(gap), before, changes);
        (LinkWork::Create { detach_first: true }, modes)
    }

    fn maps(&self, program: ProgramWork, changes: &mut Vec<Change>) -> BTreeMap<String, MapWork> {
        let pinned = self.pinned;
        let mut work = BTreeMap::new();
        for (name, map) in &self.instance.maps {
            let now = pinned.and_then(|p| p.maps.get(name));
            let recorded = pinned.and_then(|p| p.record.as_ref().ok()?.maps.get(name)).map(|id| MapId(*id));
            let (todo, change) = match (program, now) {
                (ProgramWork::Load, None) => (MapWork::Create, Some(map_created(map))),
                (ProgramWork::Load, Some(now)) => self.map_on_reload(map, now),
                (ProgramWork::Keep(_), now) => kept_map(map, now, recorded),
            };
            changes.extend(change.map(|c| Change { address: Address::Map(name.clone()), ..c }));
            work.insert(name.clone(), todo);
        }
        for (name, map) in pinned.iter().flat_map(|p| &p.maps) {
            if !self.instance.maps.contains_key(name) {
                changes.push(Change {
                    reason: Some("the program has no such map; its content is lost".into()),
                    before: Some(map_facts(&map.def, Some(map.id))),
                    ..Change::new(Address::Map(name.clone()), Action::Delete)
                });
            }
        }
        work
    }

    /// What the policy says of a pinned map when the program is loaded anew.
    fn map_on_reload(&self, map: &DesiredMap, now: &PinnedMap) -> (MapWork, Option<Change>) {
        let replaced = |reason: String| {
            Some(Change {
                reason: Some(reason),
                before: Some(map_facts(&now.def, Some(now.id))),
                after: Some(map_facts(&map.spec.def, None)),
                ..Change::new(Address::Map(String::new()), Action::Replace)
            })
        };
        let difference = definition_difference(&map.spec, now, self.observed.possible_cpus);
        match (map.reuse, difference) {
            (Reuse::Never, _) => (MapWork::Create, replaced("its content is lost: reuse = \"never\"".into())),
            (_, None) => (MapWork::Keep(now.id), None),
            (Reuse::Require, Some(difference)) => {
                let blocked_by =
                    Some(format!("reuse = \"require\", and the definition differs: {difference}"));
                (MapWork::Create, replaced(difference).map(|c| Change { blocked_by, ..c }))
            }
            // `migrate` is refused when the file is read.
            (Reuse::IfCompatible | Reuse::Migrate, Some(difference)) => {
                (MapWork::Create, replaced(format!("its content is lost: another definition, {difference}")))
            }
        }
    }

    /// The stats map that this plan replaces goes into retirement, and generations count such replacements.
    fn retirement(&self, maps: &BTreeMap<String, MapWork>) -> (Option<RetiredMap>, u64) {
        let Some(pinned) = self.pinned else { return (None, 0) };
        let generation = pinned.record.as_ref().map_or(0, |r| r.generation);
        // A map that ran and was rolled back is retired with a generation of its own, above the record's.
        let highest = pinned.retired.iter().map(|r| r.generation).max().unwrap_or(0).max(generation);
        let name = &self.desired.stats_map;
        match (pinned.maps.get(name), maps.get(name)) {
            (Some(now), Some(MapWork::Create) | None) => {
                (Some(RetiredMap { map: name.clone(), id: now.id, generation }), highest + 1)
            }
            _ => (None, generation),
        }
    }
}

impl Change {
    fn new(address: Address, action: Action) -> Self {
        Self { address, action, reason: None, before: None, after: None, blocked_by: None }
    }
}

fn map_created(map: &DesiredMap) -> Change {
    Change {
        after: Some(map_facts(&map.spec.def, None)),
        ..Change::new(Address::Map(String::new()), Action::Create)
    }
}

/// A map whose program goes on: only its pin can be wrong.
fn kept_map(map: &DesiredMap, now: Option<&PinnedMap>, recorded: Option<MapId>) -> (MapWork, Option<Change>) {
    match (now, recorded) {
        (Some(now), Some(id)) if now.id != id => {
            let change = Change {
                reason: Some(format!("the pin holds map {}, the program uses map {id}", now.id)),
                before: Some(map_facts(&now.def, Some(now.id))),
                after: Some(map_facts(&map.spec.def, Some(id))),
                ..Change::new(Address::Map(String::new()), Action::Replace)
            };
            (MapWork::Repin(id), Some(change))
        }
        (Some(now), _) => (MapWork::Keep(now.id), None),
        (None, recorded) => {
            let change = Change {
                reason: Some("its pin is gone; the map is pinned again, its content is kept".into()),
                after: Some(map_facts(&map.spec.def, recorded)),
                ..Change::new(Address::Map(String::new()), Action::Create)
            };
            (recorded.map_or(MapWork::Create, MapWork::Repin), Some(change))
        }
    }
}

const BPF_MAP_TYPE_LRU_HASH: u32 = 9;
const BPF_MAP_TYPE_LRU_PERCPU_HASH: u32 = 10;
const BPF_MAP_TYPE_DEVMAP: u32 = 14;
const BPF_MAP_TYPE_DEVMAP_HASH: u32 = 25;
const BPF_F_NO_COMMON_LRU: u32 = 1 << 1;
const BPF_F_RDONLY: u32 = 1 << 3;
const BPF_F_WRONLY: u32 = 1 << 4;
const BPF_F_RDONLY_PROG: u32 = 1 << 7;

/// How a pinned map differs from the definition, after what the kernel itself makes of a definition; `None` where it
/// can be reused.
pub fn definition_difference(wanted: &MapSpec, now: &PinnedMap, possible_cpus: u32) -> Option<String> {
    let have = &now.def;
    let want = normalised(&wanted.def, possible_cpus);
    let have_flags = have.flags & !(BPF_F_RDONLY | BPF_F_WRONLY);
    let number = |what: &str, from: u64, to: u64| (from != to).then(|| format!("{what} {from} -> {to}"));
    let mut differences: Vec<String> = Vec::new();
    if have.map_type != want.map_type {
        differences.push(format!(
            "type {} -> {}",
            map_type_name(have.map_type),
            map_type_name(want.map_type)
        ));
    }
    differences.extend(number("key size", have.key_size.into(), want.key_size.into()));
    differences.extend(number("value size", have.value_size.into(), want.value_size.into()));
    differences.extend(number("max entries", have.max_entries.into(), want.max_entries.into()));
    if have_flags != want.flags {
        differences.push(format!("flags {have_flags:#x} -> {:#x}", want.flags));
    }
    differences.extend(number("map_extra", have.map_extra, want.map_extra));
    if let (Some(want), Some(have)) = (&wanted.layout, &now.layout)
        && differences.is_empty()
    {
        differences.extend(layout_differences("key", &have.key, &want.key));
        differences.extend(layout_differences("value", &have.value, &want.value));
    }
    (!differences.is_empty()).then(|| differences.join(", "))
}

/// What became of the fields of a key or value.
fn layout_differences(side: &str, have: &Layout, want: &Layout) -> Vec<String> {
    let name =
        |field: &Field| if field.path.is_empty() { "number".to_owned() } else { format!("`{}`", field.path) };
    let find = |layout: &Layout, path: &str| layout.0.iter().find(|f| f.path == path).cloned();
    let mut differences = Vec::new();
    for old in &have.0 {
        match find(want, &old.path) {
            None => differences.push(format!("{side} field {} is gone", name(old))),
            Some(new) if new.size != old.size => {
                differences.push(format!("{side} field {} {} -> {} bits", name(old), old.size, new.size));
            }
            Some(new) if new.offset != old.offset => {
                differences.push(format!("{side} field {} moved", name(old)));
            }
            Some(_) => {}
        }
    }
    let new = want.0.iter().filter(|new| find(have, &new.path).is_none());
    differences.extend(new.map(|new| format!("{side} field {} is new", name(new))));
    differences
}

/// The definition as the kernel will tell it: kernel/bpf/hashtab.c rounds LRU maps with a list per CPU to a multiple
/// of the possible CPUs, kernel/bpf/devmap.c makes device maps read-only for programs.
fn normalised(def: &MapDef, possible_cpus: u32) -> MapDef {
    let mut def = *def;
    def.flags &= !(BPF_F_RDONLY | BPF_F_WRONLY);
    let lru = [BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH].contains(&def.map_type);
    if lru && def.flags & BPF_F_NO_COMMON_LRU != 0 && possible_cpus > 0 {
        def.max_entries = def
            .max_entries
            .checked_next_multiple_of(possible_cpus)
            .unwrap_or(def.max_entries / possible_cpus * possible_cpus);
    }
    if [BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH].contains(&def.map_type) {
        def.flags |= BPF_F_RDONLY_PROG;
    }
    def
}

fn program_facts(record: &Record, running: Option<ProgramId>) -> Facts {
    Facts::Program {
        object: None,
        digest: record.object.clone(),
        function: record.function.clone(),
        id: running.map(|id| id.0),
    }
}

fn map_facts(def: &MapDef, id: Option<MapId>) -> Facts {
    Facts::Map {
        kind: map_type_name(def.map_type),
        key_size: def.key_size,
        value_size: def.value_size,
        max_entries: def.max_entries,
        flags: def.flags,
        id: id.map(|id| id.0),
    }
}
