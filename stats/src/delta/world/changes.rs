//! What programs, `xdpd` and others do between two ticks.

use std::collections::BTreeMap;

use xdpd_config::retired;
use xdpd_kernel::MapId;

use super::{CPUS, Directory, GoingBack, Map, SLOTS, Step, World};
use crate::delta::Retired;
use crate::record::Counter;

impl World {
    pub(super) fn map(&mut self, id: MapId) -> &mut Map {
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

    pub(super) fn apply(&mut self) {
        if self.directory.is_none() {
            let current = self.create(None);
            self.directory = Some(Directory {
                generation: 0,
                current,
                retired: Vec::new(),
                pinned: true,
                blocked: false,
                before: None,
                going_back: None,
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
        let excess = directory.retired.len().saturating_sub(retired::MAX);
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

    fn begin_to_take_back(&mut self, settled: bool) {
        let Some(directory) = &self.directory else { return };
        let (Some(before), None) = (&directory.before, &directory.going_back) else { return };
        let (old, undone) = (before.current, directory.current);
        let missing = self.maps[&undone].slots.iter().zip(&self.maps[&old].slots);
        let mut owed: Vec<Counter> = missing.map(|(new, old)| new.since(*old).unwrap()).collect();
        if settled {
            self.give_back(old, &mut owed);
        }
        let going_back = GoingBack { counted: Counter::default(), owed };
        self.directory.as_mut().unwrap().going_back = Some(going_back);
    }

    fn give_back(&mut self, old: MapId, owed: &mut [Counter]) {
        for (slot, owed) in self.map(old).slots.iter_mut().zip(owed) {
            *slot = slot.plus(std::mem::take(owed));
        }
    }

    fn take_back(&mut self) {
        self.begin_to_take_back(true);
        let Some(mut directory) = self.directory.take() else { return };
        let Some(GoingBack { counted, mut owed }) = directory.going_back.take() else {
            self.directory = Some(directory);
            return;
        };
        let before = directory.before.unwrap();
        let (old, undone) = (before.current, directory.current);
        self.give_back(old, &mut owed);
        let old = self.map(old);
        old.returned.push((undone, old.counted));
        old.counted = old.counted.plus(counted);
        self.directory = Some(*before);
        self.returned_since = true;
    }

    /// The old program, which runs again, counts.
    fn count_again(&mut self, slot: usize, packets: u64) {
        let Some(Directory { before: Some(before), going_back: Some(going_back), .. }) = &mut self.directory
        else {
            return;
        };
        let more = Counter { packets, bytes: packets * 64 };
        going_back.counted = going_back.counted.plus(more);
        let old = before.current;
        let value = &mut self.map(old).slots[slot];
        *value = value.plus(more);
    }

    fn is_going_back(&self) -> bool {
        self.directory.as_ref().is_some_and(|directory| directory.going_back.is_some())
    }

    pub(super) fn step(&mut self, step: &Step) {
        // A reader that starts in these milliseconds cannot tell what was counted in them before.
        let goes_on =
            matches!(step, Step::Packets { .. }) || (matches!(step, Step::Tick { .. }) && !self.fresh);
        if self.is_going_back() && !goes_on {
            self.take_back();
        }
        match *step {
            Step::Packets { slot, packets } => {
                if self.is_going_back() {
                    self.count_again(slot, packets);
                } else if let Some(Directory { current, blocked: false, .. }) = self.directory {
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
            Step::BeginToTakeBack { settled } => self.begin_to_take_back(settled),
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
}
