//! What an interrupted run left under the pin root, and what the next run makes of it.

use std::borrow::Cow;

use xdpd_config::Label;
use xdpd_kernel::{Attached, Dir, IfIndex, Look, ProgramId, Result};

use super::directory::read_interface;
use super::listing::Remnants;
use super::names::{NEXT, OLD, SNAP, TAKEN};
use super::{LinkState, Observed, Pinned, Taken};
use crate::mode;

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

/// Whether leftovers of interrupted runs are folded into the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// As the next run will find them after recovery.
    FoldIn,
    /// As if they were not there: for looking at a run's own result before it has cleaned up.
    Ignore,
}

impl Observed {
    /// Folds in what a run left: as the state will be once the next run has recovered.
    pub(super) fn fold_in(&mut self, root: &Dir, remnants: Remnants) -> Result<()> {
        let notes = remnants.notes.into_iter();
        self.interrupted.extend(notes.map(|(note, label)| Interrupted::SettleGlobals { note, label }));
        // After the variables: a value that was written into a new map would count as one that its program has changed,
        // and be carried back. Before the stages: they hold the maps that are settled.
        let snaps = remnants.snaps.into_iter();
        self.interrupted.extend(snaps.map(|directory| Interrupted::Settle { directory }));
        for (directory, label) in remnants.removals {
            self.fold_removal(root, directory, label)?;
        }
        for (directory, label) in remnants.stages {
            self.fold_stage(root, directory, label)?;
        }
        // After the stages, whose program may be in the place.
        for directory in remnants.takeovers {
            self.fold_takeover(root, directory)?;
        }
        Ok(())
    }

    /// A program that was detached for a takeover is seen as attached, as it will be once it is put back.
    fn fold_takeover(&mut self, root: &Dir, directory: String) -> Result<()> {
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
    fn fold_removal(&mut self, root: &Dir, directory: String, label: Label) -> Result<()> {
        let pinned = read_interface(root, &directory)?.ours();
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
    fn fold_stage(&mut self, root: &Dir, directory: String, label: Label) -> Result<()> {
        let Some(staged) = read_interface(root, &directory)?.ours() else {
            self.interrupted.push(Interrupted::DropStage { directory });
            return Ok(());
        };
        let current_runs = self.interfaces.get(&label).is_some_and(Pinned::runs_its_record);
        if staged.runs_its_record() && !current_runs {
            self.interfaces.insert(label.clone(), staged);
            self.interrupted.push(Interrupted::FinishExchange { directory, label });
        } else {
            self.forget_asked(&staged);
            self.interrupted.push(Interrupted::DropStage { directory });
        }
        Ok(())
    }

    /// A program of a stage that runs without a link is seen as detached, as it will be once the stage is dropped: it was
    /// sent through netlink to get the kernel's words on a refusal, and taken.
    fn forget_asked(&mut self, staged: &Pinned) {
        let (Ok(record), LinkState::Missing) = (&staged.record, &staged.link) else { return };
        let id = ProgramId(record.program);
        if self.interfaces.values().any(|pinned| pinned.link.program() == Some(id)) {
            return;
        }
        if let Some(device) = self.devices.device_mut(record.netns_name.as_deref(), IfIndex(record.ifindex)) {
            device.xdp.retain(|attached| attached.program_id != id);
        }
    }
}

/// Whether nothing is in a directory, or it vanished meanwhile.
fn is_empty(root: &Dir, name: &str) -> Result<bool> {
    Ok(match root.find_dir(name)? {
        Look::Found(dir) => dir.list()?.is_empty(),
        Look::Gone => true,
        Look::Other(_) => false,
    })
}
