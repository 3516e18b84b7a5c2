//! What the values of a map are compared with when it is read.

use xdpd_kernel::MapId;

use super::{Current, Known, Ledger, Observation, Pin, Reading, slots};
use crate::record::Counter;

/// What a map's values are compared with.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// Its own last values.
    Known,
    Zero,
    /// The last values of another map, whose entries it took over.
    Carried(Vec<Counter>),
    /// Values that nobody read.
    Unknown,
}

/// A change that seems to have been taken back: what its map had counted went back to the map whose entries that had
/// taken over.
#[derive(Debug)]
pub(super) struct Undone {
    pub(super) base: MapId,
    /// The last values of its map.
    slots: Vec<Counter>,
}

impl Ledger {
    /// Whether the change that made the map that was current last seems to have been taken back.
    ///
    /// A map that is replaced is retired. One whose change is taken back is not, if what it had counted went back.
    pub(super) fn undone(&self, seen: &Observation<'_>) -> Option<Undone> {
        let Current { map, base, .. } = self.last?;
        let is_there = seen.current() == Some(map) || seen.retired.iter().any(|retired| retired.map == map);
        let base = base.filter(|_| !is_there)?;
        let slots = match seen.reading(map) {
            Some(reading) => &reading.slots,
            None => &self.find(map)?.slots,
        };
        Some(Undone { base, slots: slots.clone() })
    }

    /// How the values of a map that was read before are to be understood.
    pub(super) fn resume(&self, reading: &Reading, undone: Option<&Undone>) -> Start {
        self.gone_back(reading.map, reading, undone).map_or(Start::Known, Start::Carried)
    }

    /// The values of an undone change's map, if they went back to `base`, were not read there yet, and are in `reading`.
    fn gone_back(&self, base: MapId, reading: &Reading, undone: Option<&Undone>) -> Option<Vec<Counter>> {
        let Undone { slots, .. } = undone.filter(|undone| undone.base == base)?;
        let known = self.find(base).filter(|base| !base.slots.is_empty());
        let was_read = known.is_some_and(|base| slots::hold(&base.slots, slots));
        (!was_read && slots::hold(&reading.slots, slots)).then(|| slots.clone())
    }

    /// Whether a map that was final was current again, and was replaced again, so that it is to be read again.
    pub(super) fn went_on(&self, index: usize, undone: &Undone, seen: &Observation<'_>) -> bool {
        let Known { map, slots, .. } = &self.known[index];
        let Some(reading) = seen.reading(*map).filter(|_| *map == undone.base) else { return false };
        let is_moved = if slots.is_empty() {
            // It was never read: what it counted may have been read in the map that took that over.
            seen.current().is_some() && !seen.has_carried(*map)
        } else {
            seen.current().is_some() || reading.slots != *slots
        };
        is_moved && slots::hold(&reading.slots, &undone.slots)
    }

    /// Whether a map has counted more than the current one, which took over its entries and so all that it had counted by
    /// then: that change is being taken back, and the program of the map runs again.
    ///
    /// What it counts now is told once it is current again, beside what the current one has.
    pub(super) fn counts_again(&self, map: MapId, seen: &Observation<'_>) -> bool {
        let (Pin::Map { current, .. }, Some(reading)) = (&seen.pin, seen.reading(map)) else { return false };
        let is_as_it_was = self.find(map).is_some_and(|known| known.slots == reading.slots);
        seen.base() == Some(map) && !is_as_it_was && !slots::hold(&current.slots, &reading.slots)
    }

    /// How the values of a new map are to be understood.
    pub(super) fn start(&self, reading: &Reading, base: Option<MapId>, undone: Option<&Undone>) -> Start {
        // The map itself may be one that was not read before its entries were taken over.
        let mut origins = [Some(reading.map), base].into_iter().flatten();
        if let Some(slots) = origins.find_map(|origin| self.gone_back(origin, reading, undone)) {
            return Start::Carried(slots);
        }
        match base.map(|base| self.find(base)) {
            None => Start::Zero,
            Some(Some(base)) if !base.slots.is_empty() => Start::Carried(base.slots.clone()),
            // Nothing of this interface was read before: the map it came from began in the same unseen time.
            Some(_) if self.last.is_none() => Start::Zero,
            Some(_) => Start::Unknown,
        }
    }
}
