//! Removes directories of ours: those that were replaced or left, and stages that came to nothing.

use xdpd_config::Label;

use super::directories::{LinkIds, detach_link_in, drop_stage, empty, remove_directory};
use super::takeover::{give_back, taken_name};
use super::{Executor, Leaving, Staged, carry, globals};
use crate::engine::Engine;
use crate::observed::{NEXT, OLD};
use crate::plan::{LinkWork, Plan, Work};

impl<'a, E: Engine> Executor<'a, E> {
    pub(super) fn drop_stages(&self, plan: &Plan) -> Vec<String> {
        let mut problems = Vec::new();
        // Their links are those of running interfaces, or were detached when the commit was undone.
        let live = self.observed.interfaces.values().filter_map(|p| p.link.id()).collect();
        for (label, work) in plan.work() {
            let Work::Install(install) = work else { continue };
            let name = format!("{NEXT}{}", label.file_name());
            problems.extend(drop_stage(self.root, &name, &live).err().map(|e| format!("remove {name}: {e}")));
            let name = carry::directory(label);
            problems.extend(carry::remove(self.root, &name).err().map(|e| format!("remove {name}: {e}")));
            if install.takeover.is_some() {
                let name = taken_name(label);
                problems.extend(give_back(self.root, &name).err().map(|e| format!("give back {name}: {e}")));
            }
        }
        problems
    }

    /// Removes what was replaced or left; tells what could not be.
    pub(super) fn clean_up(&self, staged: Vec<Staged<'a>>, leaving: Vec<Leaving<'a>>) -> Vec<String> {
        let written = staged.iter().filter(|staged| !staged.install.stores.is_empty());
        let forgotten = written.map(|staged| (staged.label, globals::forget(self.root, staged.label)));
        let problem = |(label, result): (&Label, Result<(), xdpd_kernel::Error>)| {
            Some(format!("{label}: forget the values of global variables: {}", result.err()?))
        };
        let mut problems: Vec<String> = forgotten.filter_map(problem).collect();
        let live = self.live_links(&staged, &leaving);
        let remove = |name: &str, problems: &mut Vec<String>| {
            if let Err(e) = remove_directory(self.root, name, &live) {
                problems.push(format!("remove {name}: {e}"));
            }
        };
        for staged in staged {
            if staged.carried.is_some() {
                let name = carry::directory(staged.label);
                problems.extend(carry::remove(self.root, &name).err().map(|e| format!("remove {name}: {e}")));
            }
            remove(&staged.name, &mut problems);
            if staged.taken.is_some() {
                remove(&taken_name(staged.label), &mut problems);
            }
            if let Some(old) =
                staged.install.replaces.as_deref().filter(|old| *old != staged.label.file_name())
            {
                remove(&format!("{OLD}{old}"), &mut problems);
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
