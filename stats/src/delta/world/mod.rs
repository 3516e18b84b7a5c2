//! A model of the world that the ledger looks at, and the promise that it keeps: nothing is counted twice, nothing that
//! could be read is missed, and what could not be read is said.
//!
//! What happens is in [`changes`], what a reader can know of it in [`promise`].

mod changes;
mod promise;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use xdpd_kernel::MapId;

use super::{Ledger, Observation, Pin, Reading, Retired, Sight};
use crate::record::{ACTIONS, Counter};

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
    /// The same, but for the pins: the old program counts already, and `settled`, what the new map counted has gone back.
    BeginToTakeBack {
        settled: bool,
    },
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

/// Changes that are taken back, which takes some milliseconds, and looks in these. What else can happen is rare enough, or
/// takes long enough, not to come in between.
fn steps_back() -> impl Strategy<Value = Vec<Step>> {
    let packets = (0..SLOTS, 1..1000_u64);
    let step = prop_oneof![
        6 => packets.prop_map(|(slot, packets)| Step::Packets { slot, packets }),
        3 => (1..3_usize, prop::bool::weighted(0.8)).prop_map(|(times, carry)| Step::Replace { times, carry }),
        2 => any::<bool>().prop_map(|settled| Step::BeginToTakeBack { settled }),
        1 => Just(Step::TakeBack),
        5 => Just(Step::Tick { blind: false }),
    ];
    prop::collection::vec(step, 1..60)
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
    /// That is being done.
    going_back: Option<GoingBack>,
}

/// A change is being taken back, and its pins are still there.
#[derive(Debug, Clone)]
struct GoingBack {
    /// What the old program has counted since, for which the pins stand again at the end.
    counted: Counter,
    /// What is still to be given back to each slot of the old map.
    owed: Vec<Counter>,
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

    fn go(&mut self, steps: &[Step]) {
        // Two more looks: late counts are in by then.
        for step in steps.iter().chain([&Step::Tick { blind: false }; 2]) {
            self.step(step);
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
        // What counts again is not taken in before it is current again.
        let again = self.directory.as_ref().filter(|directory| directory.going_back.is_some());
        let again = again.and_then(|directory| Some(directory.before.as_ref()?.current));
        for id in read.into_iter().filter(|id| Some(*id) != again) {
            let map = self.map(id);
            map.read = Some(map.slots.clone());
            map.reset.clear();
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
        World::new(records, directory).go(&steps);
    }

    #[test]
    fn deltas_add_up_however_a_change_is_taken_back(steps in steps_back()) {
        World::new(true, true).go(&steps);
    }
}
