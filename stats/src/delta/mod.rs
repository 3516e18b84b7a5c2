//! The delta rules: what is seen of an interface at a tick becomes events. Pure: no system calls, no clock.
//!
//! A [`Ledger`] keeps the last values of every map of one interface, by map id. Everything else follows from that: a
//! replacement that is noticed late is still counted exactly, because the maps in between are found among the retired
//! ones and each map goes on from its own last values. The caller reads maps and keeps descriptors; which ones, the
//! ledger says ([`Ledger::wants`], [`Ledger::holds`]).
//!
//! How the first values of a map are understood:
//!
//! | the map is | its packets since |
//! |---|---|
//! | the first that is seen of the interface, or retired by then | that moment; what it holds is the baseline |
//! | seen before | it was last read |
//! | new | zero |
//! | new, with entries carried over from a map that was read | the last values of that map |
//! | new, with entries carried over from a map that was never read | that moment, and a `gap` |
//! | back, with what a map had counted whose change was taken back | the last values of that map |

mod device;
mod lineage;
mod observation;
mod origin;
#[cfg(test)]
mod rules;
mod slots;
mod standing;
#[cfg(test)]
mod world;

use xdpd_config::retired;
use xdpd_kernel::MapId;

use device::Device;
use lineage::{Lineage, Missed};
use origin::{Start, Undone};
use slots::totals;
use standing::{Role, Standing};

pub(crate) use observation::{Observation, Pin, Reading, Retired, Sight};

use crate::record::{ACTIONS, Count, Counter, Event, Sample};

/// How many maps are remembered that are gone, which are not even retired ones any more.
///
/// A map that comes back, because a change was undone or because somebody pinned it again, goes on from its last
/// values. One that comes back after so many others is taken for new. It is enough for a directory that is full of
/// retired maps and away for a while.
const REMEMBERED: usize = 2 * retired::MAX;

/// The maps of one interface, and what was last read of them.
#[derive(Debug)]
pub(crate) struct Ledger {
    phase: Phase,
    /// Every map that was read and may come again, the oldest first.
    known: Vec<Known>,
    /// The map that was current when one last was.
    last: Option<Current>,
    observed: u64,
    device: Device,
    /// What was last said about a pin that gives no map; said once, not at every tick.
    complaint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was seen yet: the first map is the baseline.
    Fresh,
    /// There was no stats map: every map that comes is read from zero.
    Empty,
    /// A stats map is followed.
    Following,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    map: MapId,
    /// The highest generation that was seen along with it: a change that was undone has used up a number too.
    generation: Option<u64>,
    /// The map whose entries were carried over to it.
    base: Option<MapId>,
}

#[derive(Debug)]
struct Known {
    map: MapId,
    /// The values last read; empty when the map could not be read.
    slots: Vec<Counter>,
    read: u64,
    standing: Standing,
}

impl Ledger {
    /// The ledger of an interface that nothing is known of: the first map that is seen is its baseline.
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Fresh,
            known: Vec::new(),
            last: None,
            observed: 0,
            device: Device::Unknown,
            complaint: None,
        }
    }

    /// The ledger of an interface that was not there at the time `seen`, when the reader looked: all that it has counted
    /// since counts.
    pub(crate) fn arrived(seen: u64) -> Self {
        Self { phase: Phase::Empty, observed: seen, ..Self::new() }
    }

    /// Whether a retired map is to be read.
    pub(crate) fn wants(&self, map: MapId) -> bool {
        // If the change that made the current map is taken back, its base goes on.
        let may_go_on = self.last.is_some_and(|last| last.base == Some(map));
        may_go_on || self.find(map).is_none_or(|known| known.standing != Standing::Settled)
    }

    /// Whether a map will be read at the next tick wherever its pin is by then: its descriptor is to be kept.
    pub(crate) fn holds(&self, map: MapId) -> bool {
        let held = [Standing::Current, Standing::Replaced, Standing::Unpinned];
        self.find(map).is_some_and(|known| held.contains(&known.standing))
    }

    /// Whether a stats map is followed.
    pub(crate) fn is_following(&self) -> bool {
        self.phase == Phase::Following
    }

    /// The interface has another device now, of which nothing is known yet.
    pub(crate) fn forget_device(&mut self) {
        self.device = Device::Unknown;
    }

    /// Takes in what was seen at a tick, and appends what there is to say about it.
    pub(crate) fn observe(&mut self, seen: &Observation<'_>, events: &mut Vec<Event>) {
        self.device.observe(seen.device, events);
        let undone = self.undone(seen);
        let undone = undone.as_ref();
        match &seen.pin {
            Pin::Map { current, generation, base } => {
                self.complaint = None;
                let now = Current { map: current.map, generation: *generation, base: *base };
                if self.phase == Phase::Fresh {
                    self.begin(current, seen, events);
                } else {
                    self.follow(current, now, seen, undone, events);
                }
                self.phase = Phase::Following;
                let listed = seen.retired.iter().map(|retired| Some(retired.generation)).max().flatten();
                self.last = Some(Current { generation: now.generation.max(listed), ..now });
            }
            Pin::Absent(reason) => {
                self.part(seen, undone, events);
                self.complain(reason, events, |reason| Event::Waiting(reason.to_owned()));
            }
            Pin::Other(reason) => {
                self.part(seen, undone, events);
                let map = None;
                self.complain(reason, events, |reason| Event::Error { map, message: reason.to_owned() });
            }
            Pin::Unreadable(reason) => {
                // What is there may well be the map that was there before: it stays the current one.
                self.read_former(seen, false, undone, events);
                let map = self.last.map(|last| last.map);
                self.complain(reason, events, |reason| Event::Error { map, message: reason.to_owned() });
            }
        }
        self.observed = seen.at;
        if !matches!(seen.pin, Pin::Unreadable(_)) {
            self.forget(seen.retired);
        }
    }

    /// Takes in the last readings of an interface that is no longer followed.
    pub(crate) fn conclude(&mut self, others: &[&Reading], events: &mut Vec<Event>) {
        let pin = Pin::Absent("");
        let seen = Observation { at: self.observed, device: Sight::Hidden, pin, retired: &[], others };
        let undone = self.undone(&seen);
        self.part(&seen, undone.as_ref(), events);
    }

    fn begin(&mut self, current: &Reading, seen: &Observation<'_>, events: &mut Vec<Event>) {
        self.read_retired(Some(current.map), seen, None, events);
        self.remember(current, Standing::Current);
        events.push(Event::Baseline { map: current.map, at: current.at, actions: totals(&current.slots) });
    }

    fn follow(
        &mut self,
        reading: &Reading,
        now: Current,
        seen: &Observation<'_>,
        undone: Option<&Undone>,
        events: &mut Vec<Event>,
    ) {
        let previous = self.last;
        let replaced = previous.filter(|last| last.map != now.map);
        if let Some(old) = replaced {
            events.push(Event::MapReplaced { old: old.map, new: now.map, generation: now.generation });
        }
        let is_new = self.find(now.map).is_none();
        let lineage = if is_new { self.lineage(now, undone, seen.retired) } else { Lineage::Known };

        let mut unread = 0;
        if self.known.iter().any(|known| known.map != now.map) || !seen.retired.is_empty() {
            unread += self.read_former(seen, true, undone, events);
            unread += self.read_retired(Some(now.map), seen, undone, events);
        }
        match Self::missed(lineage, now, seen.retired, unread) {
            Missed::Maps(0) => {}
            Missed::Maps(maps) => events.push(Event::Gap {
                map: Some(now.map),
                maps: Some(maps),
                reason: "maps came and went, or could not be read, since the last reading",
            }),
            Missed::Unknown => events.push(Event::Gap {
                map: Some(now.map),
                maps: None,
                reason: "detached and applied anew since the last reading; what came in between is unknown",
            }),
        }
        let start = if is_new { self.start(reading, now.base, undone) } else { self.resume(reading, undone) };
        self.sample(reading, start, Role::Current, events);
    }

    /// There is no stats map any more: reads what can still be read.
    fn part(&mut self, seen: &Observation<'_>, undone: Option<&Undone>, events: &mut Vec<Event>) {
        self.read_former(seen, true, undone, events);
        // The phase changes only afterwards: what is there at the very first look was there before.
        self.read_retired(None, seen, undone, events);
        self.phase = Phase::Empty;
    }

    /// Reads the maps that were read before and are not the current one. `ended`: the one that was current is not any
    /// more. Returns how many were replaced and could not be read.
    fn read_former(
        &mut self,
        seen: &Observation<'_>,
        ended: bool,
        undone: Option<&Undone>,
        events: &mut Vec<Event>,
    ) -> u64 {
        let current = seen.current();
        let mut unread = 0;
        for index in 0..self.known.len() {
            let Known { map, standing, .. } = self.known[index];
            let retired = seen.retired.iter().any(|retired| retired.map == map);
            let went_on = retired && undone.is_some_and(|undone| self.went_on(index, undone, seen));
            if (standing == Standing::Settled && !went_on) || Some(map) == current {
                continue;
            }
            let role = match standing {
                Standing::Settled => Role::Replaced,
                Standing::Current if current.is_some() => Role::Replaced,
                Standing::Current if ended => Role::Unpinned,
                Standing::Current => Role::OutOfSight,
                // What it counted while it was away was read with the map that took that over.
                Standing::Away if seen.successors(map).any(|successor| self.find(successor).is_some()) => {
                    continue;
                }
                Standing::Unpinned | Standing::Away if retired => Role::Replaced,
                Standing::Unpinned => Role::Leaving,
                Standing::Replaced => Role::Trailing,
                Standing::Away => continue,
            };
            // The current map has all that it counted. What is more was counted since that change is being taken back.
            let is_carried = role == Role::Trailing && seen.base() == Some(map);
            if is_carried || self.counts_again(map, seen) {
                self.known[index].standing = role.standing();
            } else if let Some(reading) = seen.reading(map) {
                let start = self.resume(reading, undone);
                self.sample(reading, start, role, events);
            } else if current.is_some() {
                unread += u64::from(role == Role::Replaced && !seen.has_carried(map));
                self.known[index].standing = Standing::Settled;
            }
        }
        unread
    }

    /// Reads the retired maps that are seen for the first time. Returns how many of them could not be read.
    fn read_retired(
        &mut self,
        current: Option<MapId>,
        seen: &Observation<'_>,
        undone: Option<&Undone>,
        events: &mut Vec<Event>,
    ) -> u64 {
        let mut unread = 0;
        for retired in seen.retired {
            if Some(retired.map) == current || self.find(retired.map).is_some() {
                continue;
            }
            match seen.reading(retired.map) {
                Some(reading) if self.phase == Phase::Fresh => self.remember(reading, Standing::Replaced),
                Some(reading) if self.counts_again(reading.map, seen) => {
                    // As it began: all that came to it until then is in the current one.
                    let slots = match self.start(reading, retired.base, undone) {
                        Start::Carried(slots) => slots,
                        Start::Zero => vec![Counter::default(); reading.slots.len()],
                        Start::Known | Start::Unknown => Vec::new(),
                    };
                    self.remember(&Reading { slots, ..reading.clone() }, Standing::Replaced);
                }
                Some(reading) => {
                    let start = self.start(reading, retired.base, undone);
                    self.sample(reading, start, Role::Replaced, events);
                }
                None if current.is_some() => {
                    unread += 1;
                    let lost = Reading { map: retired.map, at: seen.at, slots: Vec::new() };
                    self.remember(&lost, Standing::Settled);
                }
                // Without a current map nothing is judged to be lost yet: it is tried again.
                None => {}
            }
        }
        unread
    }

    /// Appends the sample of one map, unless there is nothing to tell, and takes over its values.
    fn sample(&mut self, reading: &Reading, start: Start, role: Role, events: &mut Vec<Event>) {
        let total = totals(&reading.slots);
        let mut resets = Vec::new();
        let known = self.known.iter_mut().find(|known| known.map == reading.map);
        let interval = reading.at.saturating_sub(known.as_ref().map_or(self.observed, |known| known.read));
        let delta = match (start, &known) {
            (Start::Known, Some(known)) if !known.slots.is_empty() => {
                slots::since(&known.slots, &reading.slots, &mut resets)
            }
            (Start::Zero, _) => total,
            (Start::Carried(base), _) => slots::beside(&base, &reading.slots, &mut resets),
            (Start::Known | Start::Unknown, _) => {
                let reason = "the values that this map began with were never read";
                events.push(Event::Gap { map: Some(reading.map), maps: None, reason });
                Default::default()
            }
        };
        if !resets.is_empty() {
            events.push(Event::CounterReset { map: reading.map, slots: resets });
        }
        if role.tells_zeros() || delta != [Counter::default(); ACTIONS.len()] {
            events.push(Event::Sample(Sample {
                map: reading.map,
                at: reading.at,
                interval,
                partial: role != Role::Current,
                actions: std::array::from_fn(|action| Count { delta: delta[action], total: total[action] }),
            }));
        }
        match known {
            Some(known) => {
                known.slots.clone_from(&reading.slots);
                known.read = reading.at;
                known.standing = role.standing();
            }
            None => self.remember(reading, role.standing()),
        }
    }

    fn remember(&mut self, reading: &Reading, standing: Standing) {
        let Reading { map, at, slots } = reading;
        self.known.push(Known { map: *map, slots: slots.clone(), read: *at, standing });
    }

    fn find(&self, map: MapId) -> Option<&Known> {
        self.known.iter().find(|known| known.map == map)
    }

    fn complain(&mut self, reason: &str, events: &mut Vec<Event>, event: impl FnOnce(&str) -> Event) {
        if self.complaint.as_deref() != Some(reason) {
            self.complaint = Some(reason.to_owned());
            events.push(event(reason));
        }
    }

    /// Drops maps that are neither current nor held nor retired, but for the newest of them.
    fn forget(&mut self, retired: &[Retired]) {
        // Beside those there is the current one.
        if self.known.len() <= REMEMBERED + retired.len() + 1 {
            return;
        }
        let is_past = |known: &Known| {
            matches!(known.standing, Standing::Away | Standing::Settled)
                && retired.iter().all(|retired| retired.map != known.map)
        };
        let mut excess = self.known.iter().filter(|known| is_past(known)).count().saturating_sub(REMEMBERED);
        self.known.retain(|known| {
            let drop = excess > 0 && is_past(known);
            excess -= usize::from(drop);
            !drop
        });
    }
}
