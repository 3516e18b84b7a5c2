//! Carries the entries of maps over while packets flow: copied in the stage, settled once no CPU runs the old program any
//! more, and settled the other way when the change is taken back.
//!
//! What that takes is pinned in a directory of its own, `%snap-<label>`: per map the old one, the new one, the base, and
//! last a symlink with the rules, which says that the copy is complete. So a run that was killed anywhere is settled by
//! the next one ([`settle_interrupted`]), whichever of the two programs it left running.

mod journal;
mod stage;
#[cfg(test)]
mod tests;
mod trio;

use xdpd_config::Label;
use xdpd_kernel::{Dir, Map, PinError};

use super::DIR_MODE;
use crate::interrupt::{Interrupt, Interrupted as Signal};
use crate::migrate::{Settings, base_definition};
use crate::observed::SNAP;
use crate::output::Progress;
use trio::Trio;

pub(super) use journal::{remove, settle_interrupted};

/// Why entries could not be carried.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// A call failed.
    #[error(transparent)]
    Kernel(#[from] xdpd_kernel::Error),
    /// A pin holds something else.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A signal asked to stop.
    #[error("interrupted by {0}")]
    Interrupted(#[from] Signal),
    /// It cannot be done, in words.
    #[error("{0}")]
    Impossible(String),
}

/// The maps of one interface whose entries are carried over.
#[derive(Debug)]
pub(super) struct Carried {
    label: Label,
    trios: Vec<Trio>,
}

/// One map to be carried.
pub(super) struct Wanted<'w> {
    pub(super) name: &'w str,
    pub(super) old: Map,
    pub(super) new: Map,
    pub(super) settings: Settings,
}

/// The directory of what is under way for an interface.
pub(super) fn directory(label: &Label) -> String {
    format!("{SNAP}{}", label.file_name())
}

impl Carried {
    /// Copies the entries of all maps. What it pins, it leaves to [`remove`], also when it fails.
    pub(super) fn copy(
        root: &Dir,
        label: &Label,
        wanted: Vec<Wanted<'_>>,
        interrupt: &Interrupt,
    ) -> Result<Self, CarryError> {
        let name = directory(label);
        root.mkdir(&name, DIR_MODE)?;
        let dir = root.open_dir(&name)?;
        let mut trios = Vec::new();
        for Wanted { name, old, new, settings } in wanted {
            let base = Map::create(name, &base_definition(old.def(), new.def()), None)?;
            let trio = Trio::new(name, old, base, new, settings)?;
            for (map, what) in trio.maps() {
                dir.pin(journal::pin(name, what), map)?;
            }
            trio.copy(&mut shown(label, &trio, "carrying over", interrupt))?;
            trios.push(trio);
        }
        for trio in &trios {
            dir.symlink(journal::format(trio.settings()), journal::pin(trio.name(), journal::RULES))?;
        }
        Ok(Self { label: label.clone(), trios })
    }

    /// Settles what the old program has done since the copy. No CPU may run it any more.
    pub(super) fn settle(&self, interrupt: &Interrupt) -> Result<(), CarryError> {
        self.trios
            .iter()
            .try_for_each(|trio| trio.settle(&mut shown(&self.label, trio, "settling", interrupt)))
    }

    /// Settles what the new program has counted, into the maps of the old one. No CPU may run the new one any more.
    /// Goes on after an error, and tells all of them.
    pub(super) fn settle_back(&self) -> Vec<String> {
        let problems = self.trios.iter().filter_map(|trio| match trio.settle_back() {
            Ok(0) => None,
            Ok(entries) => {
                Some(format!("{entries} entries of the new program have no room in map {}", trio.name()))
            }
            Err(e) => Some(format!("what the new program has counted in map {}: {e}", trio.name())),
        });
        problems.map(|problem| format!("{}: {problem}", self.label)).collect()
    }
}

/// Shows how far a map is, and asks whether to go on.
fn shown<'i>(
    label: &Label,
    trio: &Trio,
    what: &str,
    interrupt: &'i Interrupt,
) -> impl FnMut(usize) -> Result<(), CarryError> + use<'i> {
    let what = format!("{label}: {what} the entries of map {}", trio.name());
    let mut progress = Progress::of(what, trio.room());
    let mut all = 0;
    move |done| {
        all += done;
        progress.show(all);
        Ok(interrupt.check()?)
    }
}
