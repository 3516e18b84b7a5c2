//! The rules one by one, where the property test has them all at once.

use xdpd_kernel::{IfIndex, MapId};

use super::{Ledger, Observation, Pin, Reading, Retired, Sight};
use crate::record::{ACTIONS, Counter, Event};

const PASS: usize = 2;
const CPUS: usize = 2;

/// The maps of one interface, read once per `tick`.
struct Followed {
    ledger: Ledger,
    now: u64,
}

impl Followed {
    fn new() -> Self {
        Self { ledger: Ledger::new(), now: 0 }
    }

    fn tick(&mut self, pin: Pin<'_>, retired: &[Retired], others: &[&Reading]) -> Vec<Event> {
        self.now += 1_000;
        let mut events = Vec::new();
        let seen = Observation { at: self.now, device: Sight::Hidden, pin, retired, others };
        self.ledger.observe(&seen, &mut events);
        events
    }

    fn device(&mut self, device: Sight) -> Vec<Event> {
        let mut events = Vec::new();
        let pin = Pin::Absent("");
        let seen = Observation { at: self.now, device, pin, retired: &[], others: &[] };
        self.ledger.observe(&seen, &mut events);
        events.retain(|event| !matches!(event, Event::Waiting(_)));
        events
    }
}

/// A reading of a map that has counted so many passed packets on each of two CPUs.
fn map(id: u32, packets: [u64; CPUS]) -> Reading {
    let mut slots = vec![Counter::default(); ACTIONS.len() * CPUS];
    for (cpu, packets) in packets.into_iter().enumerate() {
        slots[PASS * CPUS + cpu] = Counter { packets, bytes: packets.saturating_mul(64) };
    }
    Reading { map: MapId(id), at: u64::from(id), slots }
}

fn current(current: &Reading, generation: u64) -> Pin<'_> {
    Pin::Map { current, generation: Some(generation), base: None }
}

fn retired(map: u32, generation: u64) -> Retired {
    Retired { map: MapId(map), generation, base: None }
}

/// A map that took over the entries of another one.
fn migrated(current: &Reading, generation: u64, base: u32) -> Pin<'_> {
    Pin::Map { current, generation: Some(generation), base: Some(MapId(base)) }
}

fn retired_migrated(map: u32, generation: u64, base: u32) -> Retired {
    Retired { base: Some(MapId(base)), ..retired(map, generation) }
}

/// Map, passed packets, and whether it is partial, of each sample.
fn samples(events: &[Event]) -> Vec<(u32, u64, bool)> {
    let samples = events.iter().filter_map(|event| match event {
        Event::Sample(sample) => Some((sample.map.0, sample.actions[PASS].delta.packets, sample.partial)),
        _ => None,
    });
    samples.collect()
}

fn gaps(events: &[Event]) -> Vec<Option<u64>> {
    let gaps = events.iter().filter_map(|event| match event {
        Event::Gap { maps, .. } => Some(*maps),
        _ => None,
    });
    gaps.collect()
}

#[test]
fn a_cpu_that_went_back_was_reset_whatever_the_sum_did() {
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [10, 10]), 0), &[], &[]);
    let events = followed.tick(current(&map(1, [3, 30]), 0), &[], &[]);
    assert_eq!(events[0], Event::CounterReset { map: MapId(1), slots: vec![(PASS, 0)] });
    assert_eq!(samples(&events), [(1, 3 + 20, false)]);
}

#[test]
fn a_map_that_comes_back_goes_on_from_its_last_values() {
    let mut followed = Followed::new();
    let (a, b) = (map(1, [10, 0]), map(2, [5, 0]));
    followed.tick(current(&a, 0), &[], &[]);
    followed.tick(current(&b, 1), &[retired(1, 0)], &[&a]);
    followed.tick(current(&b, 1), &[retired(1, 0)], &[&a]);
    let events = followed.tick(current(&map(1, [12, 0]), 0), &[retired(2, 1)], &[&b]);
    assert_eq!(samples(&events), [(2, 0, true), (1, 2, false)]);
    assert_eq!(gaps(&events), []);
}

#[test]
fn all_maps_between_two_ticks_are_read_and_a_missing_one_is_a_gap() {
    let old = map(1, [10, 0]);
    let between: Vec<Reading> = (2..20).map(|id| map(id, [1, 0])).collect();
    let replaced = |times: u32, lost: u32| {
        let mut followed = Followed::new();
        followed.tick(current(&old, 0), &[], &[]);
        // Of all that were replaced, the oldest are not kept any more; the first one is still held open.
        let kept: Vec<Retired> = (1 + lost..=times).map(|id| retired(id, u64::from(id) - 1)).collect();
        let readings = between.iter().filter(|reading| kept.iter().any(|kept| kept.map == reading.map));
        let others: Vec<&Reading> = std::iter::once(&old).chain(readings).collect();
        followed.tick(current(&map(times + 1, [1, 0]), u64::from(times)), &kept, &others)
    };
    let events = replaced(3, 0);
    assert_eq!(samples(&events), [(1, 0, true), (2, 1, true), (3, 1, true), (4, 1, false)]);
    assert_eq!(gaps(&events), []);
    // `xdpd` keeps 16: with the one that is held open, that is all of 17.
    let events = replaced(17, 1);
    assert_eq!((samples(&events).len(), gaps(&events)), (18, vec![]));
    assert_eq!(gaps(&replaced(18, 2)), [Some(1)]);
    assert_eq!(gaps(&replaced(5, 3)), [Some(2)]);
}

#[test]
fn what_began_anew_between_two_ticks_is_a_gap_of_unknown_size() {
    let mut followed = Followed::new();
    let (a, b) = (map(1, [10, 0]), map(7, [5, 0]));
    followed.tick(current(&a, 3), &[], &[]);
    let events = followed.tick(current(&b, 0), &[], &[&map(1, [11, 0])]);
    assert_eq!(samples(&events), [(1, 1, true), (7, 5, false)]);
    assert_eq!(gaps(&events), [None]);
}

#[test]
fn what_comes_after_waiting_is_read_from_zero_and_a_generation_that_is_missing_is_a_gap() {
    let begin = || {
        let mut followed = Followed::new();
        followed.tick(Pin::Absent("no pin"), &[], &[]);
        followed
    };
    let events = begin().tick(current(&map(1, [5, 0]), 0), &[], &[]);
    assert_eq!((samples(&events), gaps(&events)), (vec![(1, 5, false)], vec![]));
    // Generations begin with 0: it was replaced twice, and the first of its maps is not kept any more.
    let events = begin().tick(current(&map(3, [5, 0]), 2), &[retired(2, 1)], &[&map(2, [4, 0])]);
    assert_eq!((samples(&events), gaps(&events)), (vec![(2, 4, true), (3, 5, false)], vec![Some(1)]));
    let both = [retired(1, 0), retired(2, 1)];
    let events = begin().tick(current(&map(3, [5, 0]), 2), &both, &[&map(1, [3, 0]), &map(2, [4, 0])]);
    assert_eq!((samples(&events).len(), gaps(&events)), (3, vec![]));
}

#[test]
fn a_retired_map_that_could_not_be_opened_while_there_was_no_pin_is_read_with_the_next_one() {
    let mut followed = Followed::new();
    let (a, lost) = (map(1, [10, 0]), map(2, [4, 0]));
    followed.tick(Pin::Other("a program"), &[retired(2, 1)], &[]);
    assert!(followed.ledger.wants(MapId(2)));
    let events = followed.tick(current(&a, 0), &[retired(2, 1)], &[&lost]);
    assert_eq!((samples(&events), gaps(&events)), (vec![(2, 4, true), (1, 10, false)], vec![]));
}

#[test]
fn entries_that_were_carried_over_are_counted_once_and_so_are_the_last_packets_of_the_old_map() {
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [10, 0]), 0), &[], &[]);
    // The old map counted 5 more until the exchange. What it held may be on another CPU now.
    let old = map(1, [15, 0]);
    let events = followed.tick(migrated(&map(2, [3, 15]), 1, 1), &[retired(1, 0)], &[&old]);
    assert_eq!((samples(&events), gaps(&events)), (vec![(1, 5, true), (2, 3, false)], vec![]));
    let events = followed.tick(migrated(&map(2, [4, 15]), 1, 1), &[retired(1, 0)], &[&old]);
    assert_eq!(samples(&events), [(2, 1, false)]);
}

#[test]
fn a_map_that_counts_again_before_its_pin_is_back_is_told_once_it_is() {
    let kept = [retired(1, 0)];
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [10, 0]), 0), &[], &[]);
    followed.tick(migrated(&map(2, [3, 10]), 1, 1), &kept, &[&map(1, [10, 0])]);
    // The change is being taken back: the old program counts 5. Later it has got back the 4 of the new map, and counts 2.
    let events = followed.tick(migrated(&map(2, [4, 10]), 1, 1), &kept, &[&map(1, [15, 0])]);
    assert_eq!(samples(&events), [(2, 1, false)]);
    let events = followed.tick(current(&map(1, [21, 0]), 0), &[], &[&map(2, [4, 10])]);
    assert_eq!(samples(&events), [(2, 0, true), (1, 7, false)]);

    // The same where the new map was not seen before: it has what the old one had counted, and that has more by now.
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [10, 0]), 0), &[], &[]);
    let events = followed.tick(migrated(&map(2, [4, 12]), 1, 1), &kept, &[&map(1, [17, 0])]);
    assert_eq!(samples(&events), [(2, 6, false)]);
    let events = followed.tick(current(&map(1, [23, 0]), 0), &[], &[&map(2, [4, 12])]);
    assert_eq!(samples(&events), [(2, 0, true), (1, 7, false)]);
}

#[test]
fn of_maps_that_came_and_went_each_goes_on_from_the_one_whose_entries_it_took_over() {
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [10, 0]), 0), &[], &[]);
    // Migrated, migrated, begun at zero, migrated.
    let kept = [retired(1, 0), retired_migrated(2, 1, 1), retired_migrated(3, 2, 2), retired(4, 3)];
    let others = [map(1, [11, 0]), map(2, [13, 0]), map(3, [16, 0]), map(4, [4, 0])];
    let others: Vec<&Reading> = others.iter().collect();
    let events = followed.tick(migrated(&map(5, [9, 0]), 4, 4), &kept, &others);
    let expected = [(1, 1, true), (2, 2, true), (3, 3, true), (4, 4, true), (5, 5, false)];
    assert_eq!((samples(&events), gaps(&events)), (expected.to_vec(), vec![]));
}

#[test]
fn a_reader_that_starts_after_entries_were_carried_over_counts_none_of_them() {
    let mut followed = Followed::new();
    let (old, kept) = (map(1, [10, 0]), [retired(1, 0)]);
    let events = followed.tick(migrated(&map(2, [12, 0]), 1, 1), &kept, &[&old]);
    assert!(matches!(&events[..], [Event::Baseline { map: MapId(2), .. }]), "{events:?}");
    let events = followed.tick(migrated(&map(2, [13, 0]), 1, 1), &kept, &[&old]);
    assert_eq!((samples(&events), gaps(&events)), (vec![(2, 1, false)], vec![]));

    // A label that was not there before is read from zero, with what its first map had counted.
    let arrived = |kept: &[Retired], others: &[&Reading]| {
        let mut followed = Followed { ledger: Ledger::arrived(1), now: 0 };
        followed.tick(migrated(&map(2, [12, 0]), 1, 1), kept, others)
    };
    assert_eq!(samples(&arrived(&kept, &[&old])), [(1, 10, true), (2, 2, false)]);
    assert_eq!(samples(&arrived(&[], &[])), [(2, 12, false)]);
}

#[test]
fn an_old_map_that_is_not_kept_any_more_is_no_hole_when_its_entries_were_carried_over() {
    // The reader holds it open still.
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [10, 0]), 0), &[], &[]);
    let events = followed.tick(migrated(&map(2, [18, 0]), 1, 1), &[], &[&map(1, [15, 0])]);
    assert_eq!((samples(&events), gaps(&events)), (vec![(1, 5, true), (2, 3, false)], vec![]));

    // It was away for so long that it was closed: what it counted meanwhile is in the new one.
    for (kept, others) in
        [(&[][..], &[][..]), (&[retired(1, 0)], &[]), (&[retired(1, 0)], &[&map(1, [15, 0])])]
    {
        let mut followed = Followed::new();
        followed.tick(current(&map(1, [10, 0]), 0), &[], &[]);
        followed.tick(Pin::Absent("no pin"), &[], &[&map(1, [10, 0])]);
        followed.tick(Pin::Absent("no pin"), &[], &[&map(1, [10, 0])]);
        assert!(!followed.ledger.holds(MapId(1)));
        let events = followed.tick(migrated(&map(2, [18, 0]), 1, 1), kept, others);
        let sum: u64 = samples(&events).iter().map(|(_, packets, _)| packets).sum();
        assert_eq!((sum, gaps(&events)), (8, vec![]), "{events:?}");
    }
}

#[test]
fn a_migration_that_is_taken_back_is_counted_once() {
    let begin = || {
        let mut followed = Followed::new();
        followed.tick(current(&map(1, [10, 0]), 0), &[], &[]);
        followed.tick(migrated(&map(2, [3, 10]), 1, 1), &[retired(1, 0)], &[&map(1, [10, 0])]);
        followed
    };
    // The new map counted 3 and then 2, which went back to the old one; that counts 4 since. The new one is held open.
    let undone = map(2, [5, 10]);
    let events = begin().tick(current(&map(1, [14, 5]), 0), &[], &[&undone]);
    assert_eq!((samples(&events), gaps(&events)), (vec![(2, 2, true), (1, 4, false)], vec![]));
    // It was tried again since: another new map takes over the old one's entries, and counts 6.
    let kept = [retired(1, 0)];
    let events = begin().tick(migrated(&map(3, [20, 5]), 1, 1), &kept, &[&undone]);
    assert_eq!((samples(&events), gaps(&events)), (vec![(2, 2, true), (3, 10, false)], vec![]));
    // Whoever slept over all of it counts what went back in the old map.
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [10, 0]), 0), &[], &[]);
    let events = followed.tick(current(&map(1, [14, 5]), 0), &[], &[]);
    assert_eq!(samples(&events), [(1, 9, false)]);
    // A reader that started meanwhile has the first 3 in its baseline.
    let mut followed = Followed::new();
    followed.tick(migrated(&map(2, [3, 10]), 1, 1), &kept, &[&map(1, [10, 0])]);
    let events = followed.tick(current(&map(1, [14, 5]), 0), &[], &[&undone]);
    assert_eq!(samples(&events), [(2, 2, true), (1, 4, false)]);
    // Nothing went back: somebody else has pinned the old map again.
    let events = begin().tick(current(&map(1, [11, 0]), 0), &[], &[&undone]);
    assert_eq!(samples(&events), [(2, 2, true), (1, 1, false)]);
}

#[test]
fn a_retired_map_that_is_listed_again_is_not_read_when_its_successor_was() {
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [10, 0]), 0), &[], &[]);
    followed.tick(Pin::Absent("no pin"), &[], &[&map(1, [10, 0])]);
    followed.tick(Pin::Absent("no pin"), &[], &[&map(1, [10, 0])]);
    // It counted 5 while it was away, which the second map took over; by the third change it was dropped for its age.
    let (second, third) = (map(2, [17, 0]), map(3, [18, 0]));
    let events = followed.tick(migrated(&third, 2, 2), &[retired_migrated(2, 1, 1)], &[&second]);
    assert_eq!(samples(&events), [(2, 7, true), (3, 1, false)]);
    // That change is taken back, and what was retired before is listed again.
    let events =
        followed.tick(migrated(&map(2, [18, 0]), 1, 1), &[retired(1, 0)], &[&map(1, [15, 0]), &third]);
    assert_eq!(samples(&events), [(3, 0, true), (2, 0, false)]);
}

#[test]
fn a_map_that_holds_less_than_was_carried_over_was_reset_since() {
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [10, 10]), 0), &[], &[]);
    let events = followed.tick(migrated(&map(2, [3, 12]), 1, 1), &[], &[&map(1, [10, 10])]);
    assert!(events.contains(&Event::CounterReset { map: MapId(2), slots: vec![(PASS, 0)] }), "{events:?}");
    assert_eq!(samples(&events), [(1, 0, true), (2, 15, false)]);
}

#[test]
fn entries_that_came_from_a_map_that_was_never_read_are_a_gap_and_in_no_delta() {
    let mut followed = Followed::new();
    let (a, c) = (map(1, [10, 0]), map(3, [50, 0]));
    followed.tick(current(&a, 0), &[], &[]);
    let events = followed.tick(migrated(&c, 2, 2), &[retired(1, 0)], &[&a]);
    assert_eq!(samples(&events), [(1, 0, true), (3, 0, false)]);
    assert_eq!(gaps(&events), [Some(1), None]);
    let events = followed.tick(migrated(&map(3, [51, 0]), 2, 2), &[retired(1, 0)], &[&a]);
    assert_eq!(samples(&events), [(3, 1, false)]);
}

#[test]
fn without_a_record_a_new_map_is_no_gap() {
    let mut followed = Followed::new();
    let foreign = |current| Pin::Map { current, generation: None, base: None };
    let (a, b) = (map(1, [10, 0]), map(5, [5, 0]));
    followed.tick(foreign(&a), &[], &[]);
    let events = followed.tick(foreign(&b), &[], &[&a]);
    assert_eq!(samples(&events), [(1, 0, true), (5, 5, false)]);
    assert_eq!(gaps(&events), []);
}

#[test]
fn trouble_with_a_pin_is_told_once_and_again_when_it_is_another() {
    let mut followed = Followed::new();
    let told = |events: Vec<Event>| events.len();
    assert_eq!(told(followed.tick(Pin::Absent("no pin"), &[], &[])), 1);
    assert_eq!(told(followed.tick(Pin::Absent("no pin"), &[], &[])), 0);
    assert_eq!(told(followed.tick(Pin::Other("a program"), &[], &[])), 1);
    assert_eq!(told(followed.tick(Pin::Absent("no pin"), &[], &[])), 1);
}

#[test]
fn a_pin_that_cannot_be_read_for_a_while_loses_nothing() {
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [10, 0]), 0), &[], &[]);
    let events = followed.tick(Pin::Unreadable("why"), &[], &[&map(1, [12, 0])]);
    assert_eq!(samples(&events), [(1, 2, true)]);
    assert_eq!(samples(&followed.tick(Pin::Unreadable("why"), &[], &[])), []);
    assert_eq!(samples(&followed.tick(current(&map(1, [15, 0]), 0), &[], &[])), [(1, 3, false)]);
}

#[test]
fn a_device_is_up_only_after_it_was_gone() {
    let mut followed = Followed::new();
    let here = |index| Sight::Present(IfIndex(index));
    assert_eq!(followed.device(Sight::Absent), []);
    assert_eq!(followed.device(here(4)), []);
    assert_eq!(followed.device(Sight::Absent), [Event::InterfaceGone(IfIndex(4))]);
    assert_eq!(followed.device(Sight::Absent), []);
    assert_eq!(followed.device(here(5)), [Event::InterfaceUp(IfIndex(5))]);
    assert_eq!(followed.device(Sight::Hidden), []);
    let both = [Event::InterfaceGone(IfIndex(5)), Event::InterfaceUp(IfIndex(6))];
    assert_eq!(followed.device(here(6)), both);
}

#[test]
fn sums_of_what_can_be_anything_do_not_wrap() {
    let mut followed = Followed::new();
    followed.tick(current(&map(1, [0, 0]), 0), &[], &[]);
    let events = followed.tick(current(&map(1, [u64::MAX, u64::MAX]), 0), &[], &[]);
    assert_eq!(samples(&events), [(1, u64::MAX, false)]);
}
