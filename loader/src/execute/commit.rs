//! The short part that changes what runs: links first, a grace period, then pins. Every step has its undo.

use xdpd_config::record::Record;
use xdpd_config::{LINK_PIN, Label, OWNER_PIN};
use xdpd_kernel::{IfIndex, netlink};

use super::attach::{self, AttachFailure, Frags, Made, Place};
use super::directories::detach_without_link;
use super::error::{at, carry_at, pin_at};
use super::undo::Undo;
use super::{Executor, Held, Leaving, RECORD_BESIDE, Staged, StepError};
use crate::engine::Engine;
use crate::mode;
use crate::object::Dialect;
use crate::observed::{OLD, Taken};
use crate::plan::{Choice, Choices, LinkWork, Plan, RefusedMode};

impl<'a, E: Engine> Executor<'a, E> {
    /// The short part. Every step that is made is noted in `undo` first to last, and what it chose in `choices`.
    pub(super) fn commit<'s>(
        &self,
        plan: &Plan,
        staged: &'s [Staged<'a>],
        leaving: &'s [Leaving<'a>],
        undo: &mut Vec<Undo<'s, 'a>>,
        choices: &mut Choices<'a>,
    ) -> Result<(), StepError>
    where
        'a: 's,
    {
        let mut vanished = Vec::new();
        for staged in staged {
            self.interrupt.check()?;
            let steps = undo.len();
            if let Some(values) = self.note_former(staged)? {
                let written = values.write(&staged.install.stores);
                undo.push(Undo::Globals { staged, values });
                written.map_err(at(staged.label, "write global variables"))?;
            }
            match self.commit_link(staged, undo, choices) {
                Err(error) if staged.install.optional && error.is_vanished() => {
                    if let Some(Undo::Globals { values, .. }) = undo.get(steps) {
                        values.take_back(self.root).map_err(at(staged.label, "restore global variables"))?;
                        undo.remove(steps);
                    }
                    vanished.push(staged.name.as_str());
                }
                other => other?,
            }
        }
        let replaces =
            |link| matches!(link, LinkWork::Update { .. } | LinkWork::Create { detach_first: true });
        if staged.iter().any(|s| replaces(s.install.link)) {
            // From here on no CPU runs an old program: the counters of replaced maps are final.
            xdpd_kernel::rcu::wait_grace_period().map_err(|source| StepError::Kernel {
                what: "cannot wait for running programs".into(),
                source,
            })?;
        }
        // Before the pins are swapped, so that nobody finds a map in which something is missing.
        for staged in staged.iter().filter(|s| !vanished.contains(&s.name.as_str())) {
            if let Some(carried) = &staged.carried {
                carried.settle(self.interrupt).map_err(carry_at(staged.label, "settle carried entries"))?;
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
        self.commit_root(plan.root.as_ref(), undo)
    }

    /// Lets the new state be judged, where that was asked for. For that it must be all there: programs that go are
    /// detached now and not with the clean-up.
    pub(super) fn try_out<'s>(
        &self,
        leaving: &'s [Leaving<'a>],
        undo: &mut Vec<Undo<'s, 'a>>,
    ) -> Result<(), StepError> {
        let Some(trial) = &self.trial else { return Ok(()) };
        for Leaving { label, held, .. } in leaving {
            let Some(Held { old, link, record }) = held else { continue };
            link.detach().map_err(at(label, "detach"))?;
            let (netns, ifindex) = (record.netns_name.as_deref(), IfIndex(record.ifindex));
            let modes = std::slice::from_ref(&record.mode);
            undo.push(Undo::Detach { label, old, place: Place { netns, ifindex, modes } });
        }
        Ok(trial.wait(self.root, self.interrupt)?)
    }

    fn commit_pins<'s>(&self, staged: &'s Staged<'a>, undo: &mut Vec<Undo<'s, 'a>>) -> Result<(), StepError> {
        Self::commit_permissions(staged, undo)?;
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

    /// Makes one interface run its new program.
    fn commit_link<'s>(
        &self,
        staged: &'s Staged<'a>,
        undo: &mut Vec<Undo<'s, 'a>>,
        choices: &mut Choices<'a>,
    ) -> Result<(), StepError> {
        let (label, place) = (staged.label, staged.place());
        let failed = |what| move |source| self.not_attached(staged, what, source);
        match staged.install.link {
            LinkWork::Keep => Ok(()),
            LinkWork::Update { .. } => {
                let (Some(old), link) = (
                    staged.old.as_ref().and_then(|o| o.program.as_ref()),
                    staged.dir.open_link(LINK_PIN).map_err(pin_at(label, "open its link"))?,
                ) else {
                    return Err(StepError::Verification(format!("{label}: nothing to update")));
                };
                let mtu = self.mtu(staged);
                attach::replace(&link, &staged.program, old, place, mtu)
                    .map_err(failed("replace the program"))?;
                undo.push(Undo::Update { staged, link });
                Ok(())
            }
            LinkWork::Create { detach_first } => {
                if let Some(Taken { record, program }) = &staged.taken {
                    let mode = mode::to_kernel(record.mode);
                    undo.push(Undo::Takeover { staged });
                    let detach = || {
                        let netns = attach::enter(place.netns)?;
                        netns.run(|| netlink::detach_netlink(place.ifindex, mode, program))??;
                        Ok(())
                    };
                    detach().map_err(failed("detach the other's program"))?;
                }
                if detach_first
                    && let Some(old) = &staged.old
                    && let Some(link) = &old.link
                {
                    link.detach().map_err(at(label, "detach to attach anew"))?;
                    undo.push(Undo::Detach { label, old, place });
                }
                let made = attach::attach(place, &staged.program).inspect_err(|_| {
                    // What ran before comes back only where nothing runs. If this fails, it is told when the stage is
                    // dropped.
                    let _ = detach_without_link(self.root, &staged.name);
                });
                let Made { link, mode, refused } = made.map_err(failed("attach"))?;
                let pinned = staged.dir.pin(LINK_PIN, &link).map_err(at(label, "pin the link"));
                undo.push(Undo::Create { staged, link });
                pinned?;
                if mode != staged.record.mode {
                    let record = Record { mode, ..staged.record.clone() };
                    // Written beside and renamed over: a record is there at every instant.
                    staged
                        .dir
                        .symlink(record.format(), RECORD_BESIDE)
                        .map_err(at(label, "write the record"))?;
                    staged.dir.rename(RECORD_BESIDE, OWNER_PIN).map_err(at(label, "write the record"))?;
                }
                if place.modes.len() > 1 {
                    let refused = refused.into_iter().map(|r| RefusedMode { mode: r.mode, reason: r.reason });
                    choices.insert(label, Choice { mode, refused: refused.collect() });
                }
                Ok(())
            }
        }
    }

    /// The MTU that the device had when it was looked at.
    pub(super) fn mtu(&self, staged: &Staged<'_>) -> u32 {
        let install = staged.install;
        let device = self.observed.devices.device(install.netns.as_deref(), &install.device);
        device.map_or(0, |device| device.mtu)
    }

    /// The error of a step that does not attach, with what may help.
    fn not_attached(&self, staged: &Staged<'_>, what: &'static str, source: AttachFailure) -> StepError {
        let is_replacement = match staged.install.link {
            LinkWork::Update { .. } => true,
            LinkWork::Create { detach_first } => {
                // Anew, in the mode that it has.
                let had = self.replaced(staged).and_then(|pinned| pinned.record.as_ref().ok());
                detach_first && had.is_some_and(|record| staged.install.modes == [record.mode])
            }
            LinkWork::Keep => false,
        };
        let advice = attach::advice(&source.refused, self.frags(staged), is_replacement);
        StepError::Attach { label: staged.label.to_string(), what, source: source.into(), advice }
    }

    fn frags(&self, staged: &Staged<'_>) -> Frags {
        let Some(object) = self.objects.by_digest(&staged.record.object) else { return Frags::Impossible };
        match object.program(Some(&staged.record.function)) {
            Ok(program) if program.frags => Frags::Taken,
            Ok(_) if object.dialect() == Dialect::Libbpf => Frags::Possible,
            _ => Frags::Impossible,
        }
    }
}
