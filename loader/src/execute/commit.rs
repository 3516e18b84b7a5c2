//! The short part that changes what runs: links first, a grace period, then pins. Every step has its undo.

use libc::{EINVAL, EOPNOTSUPP, ERANGE};
use xdpd_config::record::Record;
use xdpd_config::{LINK_PIN, Label, Mode, OWNER_PIN};
use xdpd_kernel::{IfIndex, NetNs, Program, XdpLink, netlink};

use super::error::{at, carry_at, has_vanished, pin_at};
use super::undo::Undo;
use super::{Executor, Held, Leaving, RECORD_BESIDE, Staged, StepError};
use crate::engine::Engine;
use crate::observed::{OLD, Taken};
use crate::plan::{Install, LinkWork, Plan};
use crate::{devices, mode};

/// Where a program is attached.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) netns: Option<&'p str>,
    pub(super) ifindex: IfIndex,
    pub(super) modes: &'p [Mode],
}

impl<'a, E: Engine> Executor<'a, E> {
    /// The short part. Every step that is made is noted in `undo` first to last.
    pub(super) fn commit<'s>(
        &self,
        plan: &Plan,
        staged: &'s [Staged<'a>],
        leaving: &'s [Leaving<'a>],
        undo: &mut Vec<Undo<'s, 'a>>,
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
            match commit_link(staged, undo) {
                Err(StepError::Kernel { source, .. }) if staged.install.optional && has_vanished(&source) => {
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
        trial.wait(self.root, self.interrupt)
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

/// Attaches in the first mode that the device takes.
pub(super) fn create_link(
    place: Place<'_>,
    program: &Program,
) -> Result<(XdpLink, Mode), xdpd_kernel::Error> {
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
            Err(e) if e.errno().is_some_and(|errno| [EOPNOTSUPP, ERANGE, EINVAL].contains(&errno)) => {
                result = create(*mode).or(result);
            }
            _ => break,
        }
    }
    result
}
