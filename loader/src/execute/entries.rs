//! Writes what maps hold: into new maps before a program has them, and into those that stay.
//!
//! Maps that stay are written first of all that is committed: a new program finds what it needs. Each edit is one that
//! the map takes at once, so that an entry which stays is never missing; what was there before is put back when
//! anything fails later on.

use xdpd_config::Label;
use xdpd_kernel::Map;

use super::error::at;
use super::undo::Undo;
use super::{Executor, StepError};
use crate::engine::Engine;
use crate::entries::{self, Declared, Edit, is_array};
use crate::interrupt::Interrupt;
use crate::output::Progress;
use crate::plan::{MapEdits, Plan};

/// As many entries are written between two looks at whether to stop.
const BATCH: usize = 4096;

/// A map that stays, and what changes in it.
pub(super) struct Filling<'a> {
    pub(super) label: &'a Label,
    pub(super) name: &'a str,
    map: Map,
    edits: &'a [Edit],
}

/// Opens the maps whose entries change.
pub(super) fn open(plan: &Plan) -> Result<Vec<Filling<'_>>, StepError> {
    let mut fillings = Vec::new();
    for (label, interface) in &plan.interfaces {
        for MapEdits { map: name, id, edits } in &interface.entries {
            let map = Map::open_by_id(*id).map_err(at(label, &format!("open map {name}")))?;
            fillings.push(Filling { label, name, map, edits });
        }
    }
    Ok(fillings)
}

impl<'a, E: Engine> Executor<'a, E> {
    /// Writes into maps that stay.
    pub(super) fn fill<'s>(
        &self,
        fillings: &'s [Filling<'a>],
        undo: &mut Vec<Undo<'s, 'a>>,
    ) -> Result<(), StepError> {
        for filling in fillings {
            let Filling { label, name, map, edits } = filling;
            undo.push(Undo::Fill { filling });
            write_all(label, name, map, edits, self.interrupt)?;
        }
        Ok(())
    }

    /// Writes into a map that nothing uses yet.
    pub(super) fn fill_new(
        &self,
        label: &Label,
        name: &str,
        map: &Map,
        declared: &Declared,
    ) -> Result<(), StepError> {
        let content = declared.content(self.observed.possible_cpus);
        let edits = entries::edits(&entries::Content::new(), &content, declared.room());
        write_all(label, name, map, &edits, self.interrupt)
    }
}

impl Filling<'_> {
    /// Puts back what was there, and looks whether it is.
    pub(super) fn take_back(&self) -> Result<(), String> {
        let back = entries::reversed(self.edits);
        write(&self.map, &back).map_err(|e| e.to_string())?;
        let now = entries::read(&self.map).map_err(|e| e.to_string())?;
        let other = back.iter().filter(|edit| now.get(&edit.key) != edit.after.as_ref()).count();
        if other == 0 {
            return Ok(());
        }
        Err(format!(
            "{} of its entries are others than before; somebody else writes it",
            entries::grouped(other)
        ))
    }
}

fn write_all(
    label: &Label,
    name: &str,
    map: &Map,
    edits: &[Edit],
    interrupt: &Interrupt,
) -> Result<(), StepError> {
    let mut progress = Progress::of(format_args!("{label}: entries of map {name}"), edits.len());
    for (n, batch) in edits.chunks(BATCH).enumerate() {
        interrupt.check()?;
        write(map, batch).map_err(at(label, &format!("write entries of map {name}")))?;
        progress.show(n * BATCH + batch.len());
    }
    Ok(())
}

/// Makes edits in their order: neighbours that are alike with one call.
fn write(map: &Map, edits: &[Edit]) -> Result<(), xdpd_kernel::Error> {
    for run in edits.chunk_by(|a, b| a.after.is_some() == b.after.is_some()) {
        let keys: Vec<u8> = run.iter().flat_map(|edit| &edit.key).copied().collect();
        let values: Vec<u8> = run.iter().flat_map(|edit| edit.after.iter().flatten()).copied().collect();
        if run.iter().all(|edit| edit.after.is_some()) {
            map.update_all(&keys, &values)?;
        } else if is_array(map.def().map_type) {
            map.update_all(&keys, &vec![0; run.len() * map.value_len()])?;
        } else {
            map.delete_all(&keys)?;
        }
    }
    Ok(())
}
