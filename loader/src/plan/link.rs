//! What happens to the link of an interface, and to what is in its way on the device.

use xdpd_config::Mode;
use xdpd_kernel::netlink::Device;
use xdpd_kernel::{IfIndex, NetNsId};

use super::drift::is_unheld;
use super::interface::Planner;
use super::{Action, Address, Change, Facts, LinkWork, ProgramWork, Takeover};
use crate::devices::Space;
use crate::mode;
use crate::observed::LinkState;

impl Planner<'_> {
    /// The program of someone else's that the operator allows to replace. Only one that is attached through netlink: a
    /// link is its owner's.
    pub(super) fn takeover(&self, device: &Device) -> Option<Takeover> {
        let [attached] = &*device.xdp else { return None };
        let foreign = self.observed.foreign_programs.get(&(attached.program_id, device.ifindex))?;
        let takeover = Takeover { program: attached.program_id, mode: mode::of_kernel(attached.mode) };
        (self.allow.takeover && foreign.link.is_none()).then_some(takeover)
    }

    /// Someone else's program on the device. Programs that other interfaces of this config hold there count too,
    /// unless those interfaces are going.
    pub(super) fn foreign_program(&self, device: &Device) -> Option<String> {
        let is_mine = |program| self.pinned.is_some_and(|p| p.holds(device, program));
        let attached = device.xdp.iter().find(|a| !is_mine(a.program_id))?;
        let holder = self.observed.interfaces.iter().find(|(label, p)| {
            *label != self.label && p.runs_on(device) && p.link.program() == Some(attached.program_id)
        });
        let mode = mode::of_kernel(attached.mode);
        let foreign = self.observed.foreign_programs.get(&(attached.program_id, device.ifindex));
        let netns = match self.observed.devices.space(self.netns()) {
            Space::Present { id, .. } => Some(*id),
            Space::Absent(_) => None,
        };
        let unheld = netns.and_then(|netns| {
            self.observed.interfaces.iter().find(|(_, pinned)| is_unheld(pinned, device, netns))
        });
        if let (None, Some((label, _)), Some(link)) = (holder, unheld, foreign.and_then(|f| f.link)) {
            return Some(format!(
                "{} runs the program of `{label}`, id {}, in {mode} mode, though the pin of its link is gone; bpf_link \
                 {link} holds it, `bpftool link detach id {link}` detaches it",
                device.name, attached.program_id
            ));
        }
        match (holder, foreign) {
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

    /// A takeover is told where the link is made that it makes room for.
    pub(super) fn announce(&self, device: &Device, takeover: Takeover, changes: &mut [Change]) {
        let place = (takeover.program, device.ifindex);
        let Some(foreign) = self.observed.foreign_programs.get(&place) else { return };
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
    pub(super) fn ownership(&self, changes: &mut Vec<Change>) {
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
    pub(super) fn moved(&self, device: &Device, netns_id: NetNsId, modes: &[Mode]) -> Option<Change> {
        let record = self.pinned?.record.as_ref().ok()?;
        let after = self.link_facts(Some(device.ifindex), modes.to_vec());
        let before = Facts::Link {
            device: record.device.clone(),
            ifindex: Some(record.ifindex),
            netns: record.netns_name.clone(),
            modes: modes.to_vec(),
            refused: Vec::new(),
            config: None,
        };
        let reason = match self.from.filter(|from| *from != self.label) {
            Some(from) => format!("continues interface `{from}`, which left the file, on the same device"),
            None if record.netns == (netns_id.dev, netns_id.ino)
                && record.ifindex == device.ifindex.0
                && record.device != self.attachment.device
                && device.is_called(&record.device) =>
            {
                "the file calls the device by another of its names; the program stays attached".to_owned()
            }
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
            refused: Vec::new(),
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

    pub(super) fn link_facts(&self, ifindex: Option<IfIndex>, modes: Vec<Mode>) -> Facts {
        Facts::Link {
            device: self.attachment.device.clone(),
            ifindex: ifindex.map(|i| i.0),
            netns: self.attachment.netns.clone(),
            modes,
            refused: Vec::new(),
            config: None,
        }
    }

    pub(super) fn link(
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
            refused: Vec::new(),
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
}
