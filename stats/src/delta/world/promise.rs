//! What a reader can know, and what it therefore has to say.

use std::collections::BTreeSet;

use xdpd_config::retired;
use xdpd_kernel::MapId;

use super::{Map, World};
use crate::delta::slots::totals;
use crate::delta::{REMEMBERED, Retired};
use crate::record::{Counter, Event, Sample};

impl World {
    /// Compares what was said with what a reader could know.
    pub(super) fn check(
        &mut self,
        events: &[Event],
        visible: Option<MapId>,
        retired: &[Retired],
        blind: bool,
    ) {
        let baseline = self.fresh && visible.is_some();
        let first_look = self.fresh && !self.hidden;

        // Which maps could be read, and what they had counted.
        let is_listed = |id: MapId| retired.iter().any(|retired| retired.map == id);
        let mut readable = BTreeSet::new();
        for (id, replaced) in std::mem::take(&mut self.trailing) {
            readable.insert(id);
            if !replaced && is_listed(id) {
                self.trailing.insert(id, true);
            } else if !replaced {
                self.away.insert(id);
            }
        }
        if let Some(followed) = self.followed {
            readable.insert(followed);
            if !self.hidden && Some(followed) != visible {
                self.trailing.insert(followed, visible.is_some());
                self.followed = None;
            }
        }
        // The base of a map whose change was taken back was current again, and is final anew.
        let undone = self.last.filter(|id| Some(*id) != visible && !is_listed(*id));
        let again = undone.and_then(|undone| self.maps[&undone].base).filter(|base| {
            let Map { read, slots, returned, .. } = &self.maps[base];
            let was_followed = self.readable.contains_key(base);
            let has_moved = was_followed && read.as_ref() != Some(slots);
            // One that was never read is not, if another one has what it counted.
            let bases =
                visible.iter().map(|id| self.maps[id].base).chain(retired.iter().map(|kept| kept.base));
            let is_carried = bases.flatten().any(|carried| carried == *base);
            has_moved || (visible.is_some() && (was_followed || !(returned.is_empty() || is_carried)))
        });
        for kept in retired {
            if Some(kept.map) == again
                && !blind
                && !self.away.contains(&kept.map)
                && readable.insert(kept.map)
            {
                self.trailing.insert(kept.map, true);
            }
            let known = self.readable.contains_key(&kept.map) && !self.away.contains(&kept.map);
            if known || self.lost.contains(&kept.map) || Some(kept.map) == visible {
                continue;
            }
            if blind && !readable.contains(&kept.map) {
                if visible.is_some() {
                    self.away.remove(&kept.map);
                    self.lost.insert(kept.map);
                }
            } else if self.away.remove(&kept.map) || !readable.contains(&kept.map) {
                readable.insert(kept.map);
                self.trailing.insert(kept.map, true);
            }
        }
        let mut unknown_start = false;
        let mut order: Vec<MapId> = readable.iter().copied().collect();
        if let Some(id) = visible {
            self.trailing.remove(&id);
            self.away.remove(&id);
            order.retain(|other| *other != id);
            order.push(id);
            self.followed = Some(id);
            self.last = Some(id);
            self.lost.remove(&id);
        }
        for id in order {
            let map = self.maps[&id].clone();
            let first = !self.readable.contains_key(&id);
            self.take_in(id, first_look);
            if !first {
                continue;
            }
            let mut start = Counter::default();
            if first_look {
                start = map.counted;
            } else if let Some(before) = undone.and_then(|undone| self.came_back(id, undone)) {
                // It holds what was read of the map that was taken back, and goes on from there.
                start = before;
            } else if let Some(base) = map.base {
                if self.readable.contains_key(&base) {
                    // What was not read of the old map is in the new one.
                    self.take_in(base, false);
                } else if let Some(before) = undone.and_then(|undone| self.came_back(base, undone)) {
                    self.start.insert(base, before);
                    self.take_in(base, false);
                } else if self.ever_followed {
                    start = map.counted;
                    unknown_start = true;
                    self.take_in(id, true);
                } else {
                    self.absorb(base);
                }
            }
            self.start.insert(id, start);
        }
        // Programs count in a replaced map at most until the look after the one that noticed it.
        self.late.retain(|id| self.trailing.contains_key(id));

        // The deltas add up to what was readable, never to more.
        let samples: Vec<&Sample> =
            events.iter().filter_map(|e| if let Event::Sample(s) = e { Some(s) } else { None }).collect();
        for sample in &samples {
            for count in sample.actions {
                self.sum = self.sum.plus(count.delta);
            }
            let total = totals(&self.maps[&sample.map].slots);
            assert_eq!(sample.actions.map(|count| count.total), total);
        }
        let expected = self.readable.iter().fold(Counter::default(), |sum, (id, counted)| {
            let start = self.start.get(id).copied().unwrap_or_default();
            sum.plus(Counter { packets: counted.packets - start.packets, bytes: counted.bytes - start.bytes })
        });
        assert_eq!(self.sum, expected, "{events:?}");

        // One whole sample per tick, or the baseline instead of it; one sample per map.
        let whole =
            samples.iter().filter(|sample| !sample.partial).map(|sample| sample.map).collect::<Vec<_>>();
        assert_eq!(whole, visible.filter(|_| !baseline).into_iter().collect::<Vec<_>>());
        let distinct = samples.iter().map(|sample| sample.map).collect::<BTreeSet<_>>();
        assert_eq!(distinct.len(), samples.len(), "{events:?}");
        let baselines = events.iter().filter(|e| matches!(e, Event::Baseline { .. })).count();
        assert_eq!(baselines, usize::from(baseline));

        // What was missed is said, and nothing else is.
        let gaps: Vec<Option<u64>> = events
            .iter()
            .filter_map(|e| if let Event::Gap { maps, .. } = e { Some(*maps) } else { None })
            .collect();
        if visible.is_some() && self.records && !self.fresh {
            let missed: Vec<MapId> =
                self.since.iter().copied().filter(|id| !self.readable.contains_key(id)).collect();
            let doubtful = self.detached_since
                || self.was_empty
                || unknown_start
                || self.dropped_since
                || self.returned_since;
            // After so many changes within one interval even the first ones of a new life look like the last of an old
            // one, and so does one that has the number of a change that was taken back.
            let hidden_birth = (self.detached_since || self.returned_since) && retired.len() >= retired::MAX;
            if !missed.is_empty() && !hidden_birth {
                assert!(!gaps.is_empty(), "no gap for {missed:?}: {events:?}");
            }
            if !doubtful {
                let said: u64 = gaps.iter().map(|maps| maps.expect("a number of maps")).sum();
                assert_eq!(said, missed.len() as u64, "{missed:?}: {events:?}");
            }
        } else if !self.records {
            assert!(gaps.is_empty(), "{events:?}");
        }
        if !self.hidden {
            // Whatever came and went before the pin was away is covered by what was said about that.
            self.since.clear();
            self.was_empty = visible.is_none();
            self.detached_since = false;
            self.dropped_since = false;
            self.returned_since = false;
            self.fresh = false;
        }
        self.ever_followed |= visible.is_some();

        // Bounded, whatever happens.
        if !self.hidden {
            let held = retired.len() + self.trailing.len() + 1;
            assert!(self.ledger.known.len() <= REMEMBERED + held, "{} maps, {held}", self.ledger.known.len());
            assert!(self.descriptors.len() <= held);
        }
    }

    /// If `undone` came back to a map that was never read: what that had counted until then. All that came back before is
    /// among what `undone` began with.
    fn came_back(&mut self, id: MapId, undone: MapId) -> Option<Counter> {
        let returned = self.maps[&id].returned.clone();
        let index = returned.iter().position(|(map, _)| *map == undone)?;
        for (earlier, _) in &returned[..index] {
            self.start.entry(*earlier).or_insert(self.maps[earlier].counted);
        }
        Some(returned[index].1)
    }

    /// All that a map has counted can be read, and so can what has come back to it; `unknown`: what came back is in no
    /// delta.
    fn take_in(&mut self, id: MapId, unknown: bool) {
        let Map { counted, returned, .. } = self.maps[&id].clone();
        self.readable.insert(id, counted);
        for (undone, _) in returned {
            let counted = self.maps[&undone].counted;
            if unknown {
                self.start.entry(undone).or_insert(counted);
            }
            self.take_in(undone, unknown);
        }
    }

    /// The base of a map that nothing was known of counts with that map, as far back as it goes.
    fn absorb(&mut self, base: MapId) {
        let Map { counted, base, returned, .. } = self.maps[&base].clone();
        let counted = returned.iter().fold(counted, |sum, (undone, _)| sum.plus(self.maps[undone].counted));
        let _ = self.start.insert(MapId(u32::MAX), Counter::default());
        let all = self.readable.entry(MapId(u32::MAX)).or_default();
        *all = all.plus(counted);
        if let Some(base) = base {
            self.absorb(base);
        }
    }
}
