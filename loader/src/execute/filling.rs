//! A map that stays and what changes in it, and the writing of entries.

use xdpd_config::Label;
use xdpd_kernel::Map;

use super::StepError;
use super::error::at;
use crate::entries::{self, Edit, is_array};
use crate::interrupt::Interrupt;
use crate::output::Progress;
use crate::plan::{MapEdits, Plan};

/// As many entries are written between two looks at whether to stop.
const BATCH: usize = 4096;

/// A map that stays, and what changes in it.
pub(super) struct Filling<'a> {
    pub(super) label: &'a Label,
    pub(super) name: &'a str,
    pub(super) map: Map,
    pub(super) edits: &'a [Edit],
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

pub(super) fn write_all(
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
