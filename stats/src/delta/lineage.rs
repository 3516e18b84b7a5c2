//! Where a new map comes from, and how many maps were missed on the way to it.
//!
//! It rests on what `xdpd` keeps: generations count from 0, a map that is replaced is retired, and the one retired last
//! is always there.

use std::collections::BTreeSet;

use xdpd_config::retired;

use super::origin::Undone;
use super::{Current, Ledger, Phase, Retired};

/// Where the current map comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lineage {
    /// It was read before.
    Known,
    /// There is no record that would tell.
    Untold,
    /// From this generation on there was one map per generation.
    From(u64),
    /// The same by its number, but the map of the generation before is not among the retired ones.
    Perhaps(u64),
    /// It does not descend from the map that was read before.
    Anew,
}

/// The maps that were missed on the way to the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    Maps(u64),
    /// The interface began anew: nothing connects what was seen before to what is there now.
    Unknown,
}

impl Ledger {
    /// Where a map comes from that was not read before, judged before anything of this tick is taken in.
    pub(super) fn lineage(&self, now: Current, undone: Option<&Undone>, retired: &[Retired]) -> Lineage {
        let Some(generation) = now.generation else { return Lineage::Untold };
        let last = self.last.and_then(|last| Some((last.map, last.generation?)));
        if let Some((map, seen)) = last
            && let Some(kept) = retired.iter().find(|retired| retired.map == map)
        {
            // The map may have outlived several generations since it was last seen.
            return Lineage::From(kept.generation.max(seen).saturating_add(1));
        }
        if let Some((map, seen)) = last
            && now.base == Some(map)
        {
            // It took the place of the map that was current last, which is not kept any more.
            return Lineage::From(seen.saturating_add(1));
        }
        if let (Some(undone), Some((_, seen))) = (undone, last)
            && now.base == Some(undone.base)
        {
            // Both took over the entries of the same map: one change was taken back, the other has its number.
            return Lineage::From(seen);
        }
        let mut strangers = retired.iter().filter(|retired| self.find(retired.map).is_none());
        match (self.phase, last) {
            (Phase::Following, Some((_, seen))) => {
                if generation <= seen || strangers.any(|retired| retired.generation <= seen) {
                    Lineage::Anew
                } else {
                    Lineage::Perhaps(seen.saturating_add(1))
                }
            }
            // The pin was away, and what came then is the first, or the list tells of it from the first on.
            _ if strangers.next().is_some() => Lineage::From(0),
            _ => match retired.iter().map(|retired| retired.generation).max() {
                Some(before) => Lineage::From(before.saturating_add(1)),
                None => Lineage::From(generation),
            },
        }
    }

    /// The maps that were missed: generations that no map is listed of, and `unread` ones that are listed.
    pub(super) fn missed(lineage: Lineage, now: Current, retired: &[Retired], unread: u64) -> Missed {
        let first = match lineage {
            Lineage::Known | Lineage::Untold => return Missed::Maps(unread),
            Lineage::Anew => return Missed::Unknown,
            Lineage::From(first) | Lineage::Perhaps(first) => first,
        };
        let between = first..now.generation.unwrap_or_default();
        let expected = between.end.saturating_sub(between.start);
        let generations = retired.iter().map(|retired| retired.generation);
        let listed: BTreeSet<u64> = generations.filter(|listed| between.contains(listed)).collect();
        match expected.saturating_sub(listed.len() as u64).saturating_add(unread) {
            // The map that was last read is not kept, and the list is not full: its lineage is broken.
            0 if matches!(lineage, Lineage::Perhaps(_)) && retired.len() < retired::MAX => Missed::Unknown,
            maps => Missed::Maps(maps),
        }
    }
}
