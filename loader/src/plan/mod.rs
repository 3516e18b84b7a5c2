//! The plan: what would make the kernel match the file. A pure function of the desired and the observed state.
//!
//! [`plan`] decides everything that `apply` does, and `diff` prints the same value: there is no second opinion. Each
//! interface gets the changes that people and tools read, and the [`Work`] that the executor carries out.

mod change;
mod definition;
mod drift;
mod entries;
mod globals;
mod interface;
mod link;
mod maps;
mod needs;
mod note;
mod permissions;
mod reload;
mod slots;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use xdpd_config::{Label, join_some};

use crate::desired::{Attachment, Desired, Instance, LeftOut};
use crate::observed::{Interrupted, Observed, Pinned, Root};
use change::{map_facts, program_facts};
use interface::Planner;

pub use change::{
    Action, Address, Change, Choice, Choices, EntriesFacts, EntryFacts, Facts, InterfacePlan, RefusedMode,
    Verdict,
};
pub use drift::{Drift, drift, is_in_place};
pub use needs::{declared_maps, filled_arrays, maps_of_maps, reloads, shrinking};
pub use note::Note;
pub use permissions::RootChange;
pub use work::{Allow, Install, LinkWork, MapEdits, MapWork, ProgramWork, RetiredMap, Takeover, Work};

/// What an apply would do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The interfaces that change or are blocked.
    pub interfaces: BTreeMap<Label, InterfacePlan>,
    /// How many interfaces of the file are as it says.
    pub unchanged: usize,
    /// Where the kernel is not as our own record says.
    pub drift: Vec<Drift>,
    /// What people should know of and is no difference.
    pub notes: Vec<Note>,
    /// What an interrupted run left, to be settled first.
    pub interrupted: Vec<Interrupted>,
    /// A bpffs must be mounted first.
    pub mount: bool,
    /// The permissions of the pin root change.
    pub root: Option<RootChange>,
}

impl Plan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.interfaces.is_empty() && self.interrupted.is_empty() && self.root.is_none()
    }

    /// Some interface cannot be done.
    pub fn is_blocked(&self) -> bool {
        self.count(Verdict::Blocked) > 0
    }

    /// Every reason for which the plan cannot be carried out, `LABEL: WHY`, of a map `LABEL: map NAME: WHY`.
    pub fn blocks(&self) -> impl Iterator<Item = String> {
        let changes = self.interfaces.iter().flat_map(|(label, i)| i.changes.iter().map(move |c| (label, c)));
        changes.filter_map(|(label, change)| {
            let why = change.blocked_by.as_ref()?;
            Some(match &change.address {
                Address::Map(map) => format!("{label}: map {map}: {why}"),
                _ => format!("{label}: {why}"),
            })
        })
    }

    /// The plan as it was carried out: in the place of the modes that were to be tried, the one that was taken.
    #[must_use]
    pub fn carried_out(&self, choices: &Choices<'_>) -> Self {
        let mut plan = self.clone();
        for (label, choice) in choices {
            let changes = plan.interfaces.get_mut(*label).map(|i| &mut i.changes);
            for change in changes.into_iter().flatten() {
                change.after.as_mut().into_iter().for_each(|after| after.choose(choice));
            }
        }
        plan
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

/// The devices of patterns that can have no label, a note for each entry.
fn left_out(desired: &Desired) -> Vec<Note> {
    const SHOWN: usize = 3;
    let mut entries: BTreeMap<(&str, Option<&str>), Vec<&LeftOut>> = BTreeMap::new();
    for device in &desired.left_out {
        entries.entry((&device.entry, device.netns.as_deref())).or_default().push(device);
    }
    let note = |((entry, netns), devices): ((&str, Option<&str>), Vec<&LeftOut>)| {
        let place = netns.map_or_else(String::new, |netns| format!(" in netns `{netns}`"));
        // Whoever named them may have had terminals in mind.
        let named = devices.iter().map(|d| format!("`{}` ({})", d.device.escape_debug(), d.reason));
        let (subject, name) = match devices.len() {
            1 => (format!("a device{place} is left out"), "its name cannot be a label"),
            n => (format!("{n} devices{place} are left out"), "their names cannot be labels"),
        };
        Note {
            interface: Some(entry.to_owned()),
            what: format!("{subject}, since {name} here: {}", join_some(named, SHOWN)),
        }
    };
    entries.into_iter().map(note).collect()
}

/// Computes the plan.
pub fn plan(desired: &Desired, observed: &Observed, allow: Allow) -> Plan {
    let mut plan = Plan {
        interrupted: observed.interrupted.clone(),
        mount: observed.root == Root::Mountable,
        root: permissions::root_change(desired, observed),
        notes: permissions::obstacles(desired, observed).into_iter().chain(left_out(desired)).collect(),
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
        if let Some(note) = planner.absent() {
            plan.notes.push(note);
            continue;
        }
        match planner.plan() {
            Some(interface) => drop(plan.interfaces.insert(label.clone(), interface)),
            None => plan.unchanged += 1,
        }
    }
    for foreign in observed.foreign.iter().filter(|foreign| foreign.untrusted.is_some()) {
        let label = Label::from_file_name(&foreign.name);
        if let Some(label) = label.filter(|label| !desired.attachments.contains_key(label)) {
            let path = desired.pin_root.join(&foreign.name).display().to_string();
            plan.notes.push(Note::of(&label, foreign.obstacle(&path)));
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

/// The pins that interfaces of the file continue, with the labels that they have, and what is to run there.
fn continued<'a>(
    desired: &'a Desired,
    observed: &'a Observed,
) -> impl Iterator<Item = (&'a Label, &'a Pinned, &'a Instance)> {
    desired.attachments.iter().filter_map(|(label, attachment)| {
        let (from, pinned) = predecessor(label, attachment, desired, observed)?;
        Some((from, pinned, desired.instances.get(&attachment.instance)?))
    })
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
                refused: Vec::new(),
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
    InterfacePlan { verdict: Verdict::Remove, changes, work, entries: Vec::new() }
}
