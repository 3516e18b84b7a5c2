//! The plan of one interface.

use xdpd_config::Label;
use xdpd_config::escape::escape;

use super::change::program_facts;
use super::drift::moved;
use super::reload::reload_reasons;
use super::{
    Action, Address, Allow, Change, Facts, Install, InterfacePlan, Note, ProgramWork, Verdict, Work,
};
use crate::desired::{Attachment, Desired, Instance};
use crate::devices::Space;
use crate::observed::{LinkState, NEXT, OLD, Observed, OtherKind, Pinned, TAKEN};

pub(super) struct Planner<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) allow: Allow,
    pub(super) label: &'a Label,
    pub(super) attachment: &'a Attachment,
    pub(super) instance: &'a Instance,
    /// The pins it continues, and the label they have.
    pub(super) pinned: Option<&'a Pinned>,
    pub(super) from: Option<&'a Label>,
}

impl Planner<'_> {
    pub(super) fn plan(&self) -> Option<InterfacePlan> {
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
            self.announce(device, takeover, &mut changes);
        }
        let maps = self.maps(program, &mut changes);
        let stores = self.globals(program, &maps, &mut changes);
        self.ownership(&mut changes);
        if !changes.iter().any(|c| c.address == Address::Link) {
            changes.extend(self.moved(device, *netns_id, &modes));
        }
        self.permissions(&maps, &mut changes);
        let only_entries = changes.is_empty();
        let entries = self.entries(&maps, &mut changes);
        if changes.is_empty() {
            return None;
        }
        if let Some(obstacle) = self.in_the_way(&[NEXT, OLD, TAKEN]) {
            return Some(self.refusal(obstacle));
        }
        if changes.iter().any(|c| c.blocked_by.is_some()) {
            return Some(InterfacePlan::blocked(changes));
        }
        if only_entries {
            let work = Some(Work::Entries);
            return Some(InterfacePlan { verdict: Verdict::Change, changes, work, entries });
        }
        let (retire, generation) = self.retirement(&maps);
        let install = Install {
            replaces: pinned.map(|p| p.directory.clone()),
            device: self.attachment.device.clone(),
            ifindex: device.ifindex,
            optional: self.attachment.optional,
            netns: self.attachment.netns.clone(),
            netns_id: *netns_id,
            modes,
            program,
            link,
            takeover,
            maps,
            stores,
            retire,
            generation,
        };
        let verdict = if pinned.is_some() { Verdict::Change } else { Verdict::Add };
        Some(InterfacePlan { verdict, changes, work: Some(Work::Install(Box::new(install))), entries })
    }

    /// What to tell of an optional device that is not there; then there is nothing to plan.
    pub(super) fn absent(&self) -> Option<Note> {
        let Attachment { device, optional, .. } = self.attachment;
        let devices = &self.observed.devices;
        let is_absent = *optional && devices.device(self.netns(), device).is_none();
        is_absent.then(|| {
            let pins = if self.pinned.is_some() { ", and its pins stay" } else { "" };
            let absence = devices.absence(self.netns(), device);
            Note::of(self.label, format!("{absence}; optional: apply attaches it once it is there{pins}"))
        })
    }

    pub(super) fn netns(&self) -> Option<&str> {
        self.attachment.netns.as_deref()
    }

    /// What makes any change of this interface impossible.
    fn blocked(&self) -> Option<String> {
        let pinned = self.pinned;
        let name = &self.attachment.device;
        let Some(device) = self.observed.devices.device(self.netns(), name) else {
            let known = self.observed.devices.iter().filter(|(n, _)| *n == self.netns());
            let known = known.flat_map(|(_, d)| d.names());
            let hint = xdpd_config::suggest(name, known)
                .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            // Ours goes on wherever the device went: whoever knows that can follow it.
            let live = pinned.filter(|p| matches!(p.link, LinkState::Live { .. }));
            let went = live.and_then(|p| moved(p.record.as_ref().ok()?, p, &self.observed.devices));
            let hint = went.map_or(hint, |went| {
                format!("; {went}, its program still attached: follow it in the file, or move it back")
            });
            return Some(format!("{}{hint}", self.observed.devices.absence(self.netns(), name)));
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
        if pinned.is_none()
            && let Some(obstacle) = self.in_the_way(&[""])
        {
            return Some(obstacle);
        }
        if self.takeover(device).is_some() { None } else { self.foreign_program(device) }
    }

    /// Something that is not ours has the name of the label behind one of these prefixes.
    fn in_the_way(&self, prefixes: &[&str]) -> Option<String> {
        let label = self.label.file_name();
        let is_in_the_way = |name: &str| prefixes.iter().any(|p| name.strip_prefix(p) == Some(&*label));
        let foreign = self.observed.foreign.iter().find(|foreign| is_in_the_way(&foreign.name))?;
        Some(foreign.obstacle(&self.desired.pin_root.join(&foreign.name).display().to_string()))
    }

    fn refusal(&self, why: String) -> InterfacePlan {
        let action = if self.pinned.is_some() { Action::Update } else { Action::Create };
        let change = Change {
            blocked_by: Some(why),
            after: Some(self.link_facts(None, self.attachment.modes.clone())),
            ..Change::new(Address::Link, action)
        };
        InterfacePlan::blocked(vec![change])
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
}
