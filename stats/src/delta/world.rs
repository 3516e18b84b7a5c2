//! A model of the world that the ledger looks at, and the promise that it keeps: nothing is counted twice, nothing that
//! could be read is missed, and what could not be read is said.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const CPUS: usize = 3;
const SLOTS: usize = ACTIONS.len() * CPUS;

/// Something that happens between two ticks, or a tick.
#[derive(Debug, Clone)]
enum Step {
    /// The running program counts.
    Packets {
        slot: usize,
        packets: u64,
    },
    /// A program that ran during a replacement counts in the old map.
    Late {
        which: usize,
        slot: usize,
        packets: u64,
    },
    /// A change with a new stats map, its entries carried over or not, so many times in a row.
    Replace {
        times: usize,
        carry: bool,
    },
    /// The last change, which carried entries over, is taken back: what the new map counted goes back to the old one.
    TakeBack,
    /// A change that was undone after its program had run and counted.
    Undo {
        slot: usize,
        packets: u64,
    },
    /// Time passes: the next change drops the retired maps.
    Age,
    Detach,
    Apply,
    /// The pin alone is removed; the program goes on.
    Unpin,
    Repin,
    /// Something that is no stats map takes the pin's place.
    Block,
    /// The directory cannot be read.
    Hide,
    Unhide,
    /// Somebody writes zeros for an action right after a tick.
    Reset {
        action: usize,
    },
    /// The reader looks; when `blind` it cannot open retired maps.
    Tick {
        blind: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let packets = (0..SLOTS, 1..1000_u64);
    let step = prop_oneof![
        12 => packets.clone().prop_map(|(slot, packets)| Step::Packets { slot, packets }),
        3 => (0..8_usize, packets.clone()).prop_map(|(which, (slot, packets))| Step::Late { which, slot, packets }),
        5 => (1..4_usize, any::<bool>()).prop_map(|(times, carry)| Step::Replace { times, carry }),
        1 => (15..20_usize).prop_map(|times| Step::Replace { times, carry: false }),
        3 => Just(Step::TakeBack),
        1 => packets.prop_map(|(slot, packets)| Step::Undo { slot, packets }),
        1 => Just(Step::Age),
        1 => Just(Step::Detach),
        3 => Just(Step::Apply),
        1 => Just(Step::Unpin),
        2 => Just(Step::Repin),
        1 => Just(Step::Block),
        1 => Just(Step::Hide),
        2 => Just(Step::Unhide),
        2 => (0..ACTIONS.len()).prop_map(|action| Step::Reset { action }),
        12 => prop::bool::weighted(0.05).prop_map(|blind| Step::Tick { blind }),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Debug, Clone)]
struct Map {
    slots: Vec<Counter>,
    /// What programs counted in it, resets or not.
    counted: Counter,
    base: Option<MapId>,
    /// The values at the last tick that read it, for slots that were reset since.
    reset: BTreeMap<usize, Counter>,
    /// The slots when it was last read.
    read: Option<Vec<Counter>>,
    /// Maps whose changes were taken back: what they had counted is in this one. And what this one had counted then.
    returned: Vec<(MapId, Counter)>,
}

#[derive(Debug, Clone)]
struct Directory {
    generation: u64,
    current: MapId,
    retired: Vec<Retired>,
    pinned: bool,
    blocked: bool,
    /// What was there before the last change, for as long as that can be taken back: until somebody meddles.
    before: Option<Box<Directory>>,
}

/// What is true, and what of it a reader can know.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts
struct World {
    records: bool,
    now: u64,
    maps: BTreeMap<MapId, Map>,
    directory: Option<Directory>,
    hidden: bool,
    aged: bool,
    /// Maps in which a program may still count although they were replaced.
    late: BTreeSet<MapId>,

    ledger: Ledger,
    descriptors: BTreeSet<MapId>,

    /// Whether the first look is still to come.
    fresh: bool,
    /// What each map that was readable had counted when it was, and when it was first.
    start: BTreeMap<MapId, Counter>,
    readable: BTreeMap<MapId, Counter>,
    /// The map that was current at the last look that told.
    followed: Option<MapId>,
    /// The map that was current when one last was.
    last: Option<MapId>,
    ever_followed: bool,
    /// Maps that are read once more at the next look, and whether they are known to be replaced.
    trailing: BTreeMap<MapId, bool>,
    /// Maps that were unpinned and are read again only if they turn up.
    away: BTreeSet<MapId>,
    /// Maps that were current since the last look that told.
    since: BTreeSet<MapId>,
    detached_since: bool,
    /// Retired maps were dropped for their age: then their list alone cannot tell the lineage.
    dropped_since: bool,
    /// A change was taken back: then generations cannot tell all.
    returned_since: bool,
    was_empty: bool,
    lost: BTreeSet<MapId>,

    sum: Counter,
}

impl World {
    fn new(records: bool, directory: bool) -> Self {
        let mut world = Self {
            records,
            now: 1,
            maps: BTreeMap::new(),
            directory: None,
            hidden: false,
            aged: false,
            late: BTreeSet::new(),
            ledger: Ledger::new(),
            descriptors: BTreeSet::new(),
            fresh: true,
            start: BTreeMap::new(),
            readable: BTreeMap::new(),
            followed: None,
            last: None,
            ever_followed: false,
            trailing: BTreeMap::new(),
            away: BTreeSet::new(),
            since: BTreeSet::new(),
            detached_since: false,
            dropped_since: false,
            returned_since: false,
            was_empty: false,
            lost: BTreeSet::new(),
            sum: Counter::default(),
        };
        if directory {
            world.apply();
        }
        world
    }

    fn map(&mut self, id: MapId) -> &mut Map {
        self.maps.get_mut(&id).unwrap()
    }

    fn create(&mut self, base: Option<MapId>) -> MapId {
        let id = MapId(u32::try_from(self.maps.len()).unwrap() + 1);
        let slots =
            base.map_or_else(|| vec![Counter::default(); SLOTS], |base| self.maps[&base].slots.clone());
        let map = Map {
            slots,
            counted: Counter::default(),
            base,
            reset: BTreeMap::new(),
            read: None,
            returned: Vec::new(),
        };
        self.maps.insert(id, map);
        self.since.insert(id);
        id
    }

    fn count(&mut self, id: MapId, slot: usize, packets: u64) {
        let bytes = packets * 64;
        let map = self.map(id);
        let value = &mut map.slots[slot];
        let after = Counter { packets: value.packets + packets, bytes: value.bytes + bytes };
        // Nobody can see a reset whose slot has overtaken its old value by the next look.
        if map.reset.get(&slot).is_some_and(|old| after.packets >= old.packets) {
            return;
        }
        *value = after;
        map.counted = map.counted.plus(Counter { packets, bytes });
    }

    fn apply(&mut self) {
        if self.directory.is_none() {
            let current = self.create(None);
            self.directory = Some(Directory {
                generation: 0,
                current,
                retired: Vec::new(),
                pinned: true,
                blocked: false,
                before: None,
            });
        }
    }

    fn replace(&mut self, carry: bool) {
        let Some(mut directory) = self.directory.take() else { return };
        let old = directory.current;
        directory.before = None;
        // A reset that nobody has seen yet would come to light when what is carried over comes back.
        let can_go_back = carry && self.records && self.maps[&old].reset.is_empty();
        let before = can_go_back.then(|| Box::new(directory.clone()));
        let base = carry.then_some(old);
        if carry {
            self.late.remove(&old);
        } else {
            self.late.insert(old);
        }
        let retired = Retired { map: old, generation: directory.generation, base: self.maps[&old].base };
        // A change that was undone has used up its number.
        let used = directory.retired.iter().map(|retired| retired.generation).max().unwrap_or_default();
        if std::mem::take(&mut self.aged) {
            self.dropped_since = true;
            directory.retired.clear();
        }
        directory.retired.push(retired);
        directory.retired.sort_by_key(|retired| retired.generation);
        let excess = directory.retired.len().saturating_sub(RETIRED);
        directory.retired.drain(..excess);
        directory.current = self.create(base.filter(|_| self.records));
        if base.is_some() && !self.records {
            self.late.insert(old);
        }
        directory.generation = directory.generation.max(used) + 1;
        directory.pinned = true;
        directory.blocked = false;
        directory.before = before;
        self.directory = Some(directory);
    }

    fn take_back(&mut self) {
        let Some(before) = self.directory.as_mut().and_then(|directory| directory.before.take()) else {
            return;
        };
        let undone = self.directory.replace(*before).map(|directory| directory.current);
        let old = self.directory.as_ref().map(|directory| directory.current);
        let (Some(undone), Some(old)) = (undone, old) else { return };
        self.map(old).slots = self.maps[&undone].slots.clone();
        let counted = self.maps[&old].counted;
        self.map(old).returned.push((undone, counted));
        self.returned_since = true;
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Packets { slot, packets } => {
                if let Some(Directory { current, blocked: false, .. }) = self.directory {
                    self.count(current, slot, packets);
                }
            }
            Step::Late { which, slot, packets } => {
                if let Some(id) = self.late.iter().nth(which).copied() {
                    self.count(id, slot, packets);
                }
            }
            Step::Replace { times, carry } => (0..times).for_each(|_| self.replace(carry)),
            Step::Undo { slot, packets } => {
                if self.directory.is_some() {
                    let staged = self.create(None);
                    self.count(staged, slot, packets);
                    self.late.insert(staged);
                    let directory = self.directory.as_mut().unwrap();
                    directory.before = None;
                    let used = directory.retired.iter().map(|retired| retired.generation).max();
                    let generation = directory.generation.max(used.unwrap_or_default()) + 1;
                    directory.retired.push(Retired { map: staged, generation, base: None });
                }
            }
            Step::TakeBack => self.take_back(),
            Step::Age => self.aged = true,
            Step::Detach => {
                if let Some(directory) = self.directory.take() {
                    self.late.insert(directory.current);
                    self.detached_since = true;
                    if self.was_empty {
                        // A life between two looks, while nothing was expected to be there: nobody can know.
                        self.since.clear();
                    }
                }
            }
            Step::Apply => self.apply(),
            Step::Unpin => {
                if let Some(directory) = &mut self.directory {
                    directory.pinned = false;
                    directory.before = None;
                }
            }
            Step::Repin => {
                if let Some(directory) = &mut self.directory {
                    directory.pinned = true;
                    directory.blocked = false;
                }
            }
            Step::Block => {
                if let Some(directory) = &mut self.directory {
                    directory.blocked = true;
                    directory.before = None;
                }
            }
            Step::Hide => self.hidden = true,
            Step::Unhide => self.hidden = false,
            Step::Reset { action } => {
                let current = self.directory.as_ref().map(|directory| directory.current);
                if let Some(current) = current.filter(|current| self.followed == Some(*current)) {
                    self.directory.as_mut().unwrap().before = None;
                    let map = self.map(current);
                    for slot in action * CPUS..(action + 1) * CPUS {
                        // Packets between a look and a reset are lost, and nobody can know: not at other times.
                        if map
                            .read
                            .as_ref()
                            .is_some_and(|read| read[slot] == map.slots[slot] && read[slot].packets > 0)
                        {
                            map.reset.insert(slot, map.slots[slot]);
                            map.slots[slot] = Counter::default();
                        }
                    }
                }
            }
            Step::Tick { blind } => self.tick(blind),
        }
    }

    fn reading(&self, id: MapId) -> Reading {
        Reading { map: id, at: self.now, slots: self.maps[&id].slots.clone() }
    }

    fn tick(&mut self, blind: bool) {
        self.now += 1_000_000;
        let directory = self.directory.as_ref().filter(|_| !self.hidden);
        let visible = directory.filter(|d| d.pinned && !d.blocked).map(|d| d.current);
        let retired: Vec<Retired> =
            directory.filter(|_| self.records).map(|d| d.retired.clone()).unwrap_or_default();

        // What the glue does: reads what it has descriptors for and what it is asked to open.
        let mut others: Vec<Reading> =
            self.descriptors.iter().filter(|id| Some(**id) != visible).map(|id| self.reading(*id)).collect();
        for kept in &retired {
            if !blind && self.ledger.wants(kept.map) && !self.descriptors.contains(&kept.map) {
                others.push(self.reading(kept.map));
            }
        }
        let current = visible.map(|id| self.reading(id));
        let pin = match &current {
            Some(current) => Pin::Map {
                current,
                generation: directory.filter(|_| self.records).map(|d| d.generation),
                base: self.maps[&current.map].base,
            },
            None if self.hidden => Pin::Unreadable("hidden"),
            None if directory.is_some_and(|d| d.blocked) => Pin::Other("blocked"),
            None => Pin::Absent("nothing"),
        };
        let device = Sight::Hidden;
        let others: Vec<&Reading> = others.iter().collect();
        let seen = Observation { at: self.now, device, pin, retired: &retired, others: &others };
        let mut events = Vec::new();
        self.ledger.observe(&seen, &mut events);

        let read: Vec<MapId> = others.iter().copied().chain(&current).map(|reading| reading.map).collect();
        self.descriptors = read.iter().copied().filter(|id| self.ledger.holds(*id)).collect();

        self.check(&events, visible, &retired, blind);
        for id in read {
            let map = self.map(id);
            map.read = Some(map.slots.clone());
            map.reset.clear();
        }
    }

    /// Compares what was said with what a reader could know.
    fn check(&mut self, events: &[Event], visible: Option<MapId>, retired: &[Retired], blind: bool) {
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
            // After so many changes within one interval even the first ones of a new life look like the last of an old one, and
            // so does one that has the number of a change that was taken back.
            let hidden_birth = (self.detached_since || self.returned_since) && retired.len() >= RETIRED;
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

    /// All that a map has counted can be read, and so can what has come back to it; `unknown`: what came back is in no delta.
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

/// At least 1000 cases, more with `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(1000), failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn deltas_add_up_to_all_that_was_readable_and_the_rest_is_said(
        steps in steps(),
        records in prop::bool::weighted(0.8),
        directory in any::<bool>(),
    ) {
        let mut world = World::new(records, directory);
        for step in &steps {
            world.step(step);
        }
        // Two more looks: late counts are in by then.
        world.tick(false);
        world.tick(false);
    }
}
