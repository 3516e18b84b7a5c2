//! The rules one by one, where the property test has them all at once.

use super::*;

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
fn entries_that_came_from_a_map_that_was_never_read_are_a_gap_and_in_no_delta() {
    let mut followed = Followed::new();
    let (a, c) = (map(1, [10, 0]), map(3, [50, 0]));
    followed.tick(current(&a, 0), &[], &[]);
    let pin = |current| Pin::Map { current, generation: Some(2), base: Some(MapId(2)) };
    let events = followed.tick(pin(&c), &[retired(1, 0)], &[&a]);
    assert_eq!(samples(&events), [(1, 0, true), (3, 0, false)]);
    assert_eq!(gaps(&events), [Some(1), None]);
    let events = followed.tick(pin(&map(3, [51, 0])), &[retired(1, 0)], &[&a]);
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
