//! The names of retired stats maps: `<map>-<generation>-<map id>`, beside the map that took their place.

use crate::escape::{escape, unescape};

/// At most so many are kept of one interface, the newest.
pub const MAX: usize = 16;

/// The file name of the map called `map` with the id `id`, retired when generation `generation` was current.
pub fn name(map: &str, generation: u64, id: u32) -> String {
    format!("{}-{generation}-{id}", escape(map))
}

/// The parts of a name that [`name`] gave (map, generation, map id), or `None` when it is no such name.
pub fn parse(file_name: &str) -> Option<(String, u64, u32)> {
    let mut parts = file_name.rsplitn(3, '-');
    let id = parts.next()?.parse().ok()?;
    let generation = parts.next()?.parse().ok()?;
    let map = unescape(parts.next()?).filter(|map| !map.is_empty())?;
    // Spelling it again refuses what `parse` reads more freely than `name` writes: "+1", "007".
    (name(&map, generation, id) == file_name).then_some((map, generation, id))
}
