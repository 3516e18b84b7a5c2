//! Random entries in real maps of every type, changed on both sides while they are carried over.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use xdpd_kernel::map_types::{
    BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_LRU_HASH,
    BPF_MAP_TYPE_LRU_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH,
};
use xdpd_kernel::{Btf, Map, MapBtf, MapDef};

use super::trio::Trio;
use crate::migrate::{Family, Settings, base_definition, family};

/// Hash, LRU hash, array, per CPU the same, and LPM trie.
const TYPES: [u32; 7] = [
    BPF_MAP_TYPE_HASH,
    BPF_MAP_TYPE_LRU_HASH,
    BPF_MAP_TYPE_ARRAY,
    BPF_MAP_TYPE_PERCPU_HASH,
    BPF_MAP_TYPE_LRU_PERCPU_HASH,
    BPF_MAP_TYPE_PERCPU_ARRAY,
    BPF_MAP_TYPE_LPM_TRIE,
];

/// What becomes of an entry while it is carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    OldRemoves,
    NewRemoves,
    OldAdds,
    NewAdds,
    BothAdd,
}

#[derive(Debug, Clone)]
struct Entry {
    fate: Fate,
    start: u32,
    /// What each program counts in two rounds, between which it may be settled.
    old: [u32; 2],
    new: [u32; 2],
    /// What each sets the state to.
    old_state: Option<i32>,
    new_state: Option<i32>,
}

fn entry() -> impl Strategy<Value = Entry> {
    use Fate::{BothAdd, NewAdds, NewRemoves, OldAdds, OldRemoves, Stays};
    let fate = prop::sample::select(vec![Stays, Stays, OldRemoves, NewRemoves, OldAdds, NewAdds, BothAdd]);
    let count = || prop::sample::select(vec![0, 0, 1, 5, 1 << 20]);
    let state = || prop::option::of(-3..100_i32);
    (fate, count(), [count(), count()], [count(), count()], state(), state()).prop_map(
        |(fate, start, old, new, old_state, new_state)| Entry { fate, start, old, new, old_state, new_state },
    )
}

/// BTF with `unsigned int`, `unsigned long`, `int`, `long`, and the structs of the two values:
/// `{ u32 count; s32 state; }` and `{ s64 state; u64 count; u32 fresh; }`.
fn types() -> Btf {
    let mut strings = vec![0];
    let mut words: Vec<u32> = Vec::new();
    let mut name = |text: &str| {
        let at = u32::try_from(strings.len()).unwrap();
        strings.extend(text.bytes().chain([0]));
        at
    };
    for (text, size, signed) in [("u32", 4, 0), ("u64", 8, 0), ("s32", 4, 1), ("s64", 8, 1)] {
        words.extend([name(text), 1 << 24, size, signed << 24 | (size * 8)]);
    }
    let mut value = |words: &mut Vec<u32>, text: &str, size: u32, fields: &[(&str, u32, u32)]| {
        words.extend([name(text), 4 << 24 | u32::try_from(fields.len()).unwrap(), size]);
        for (field, id, at) in fields {
            words.extend([name(field), *id, at * 8]);
        }
    };
    value(&mut words, "old", 8, &[("count", 1, 0), ("state", 3, 4)]);
    value(&mut words, "new", 24, &[("state", 4, 0), ("count", 2, 8), ("fresh", 1, 16)]);
    let types_len = u32::try_from(words.len() * 4).unwrap();
    let strings_len = u32::try_from(strings.len()).unwrap();
    let header = [0x0001_eb9f, 24, 0, types_len, types_len, strings_len];
    let mut raw: Vec<u8> = header.into_iter().chain(words).flat_map(u32::to_ne_bytes).collect();
    raw.extend(strings);
    Btf::load(&raw).unwrap()
}

/// One of the two maps: where count and state are in its values.
struct Side<'m> {
    map: &'m Map,
    count: (usize, usize),
    state: (usize, usize),
}

impl Side<'_> {
    fn key(&self, number: usize) -> Vec<u8> {
        let number = u32::try_from(number).unwrap().to_ne_bytes();
        match self.map.key_len() {
            8 => [32_u32.to_ne_bytes(), number].concat(),
            _ => number.to_vec(),
        }
    }

    /// The slot that counts: the last.
    fn read(&self, number: usize) -> Option<(u64, i64)> {
        let mut value = vec![0; self.map.value_len()];
        // A trie finds shorter prefixes as well, of which there are none here.
        self.map.lookup(&self.key(number), &mut value).unwrap().then(|| {
            let slot = value.chunks(self.map.layout().stride()).next_back().unwrap();
            let number = |(at, size): (usize, usize), fill: u8| {
                let mut word = [fill; 8];
                word[..size].copy_from_slice(&slot[at..at + size]);
                word
            };
            let sign = if slot[self.state.0 + self.state.1 - 1] > 0x7f { 0xff } else { 0 };
            (u64::from_ne_bytes(number(self.count, 0)), i64::from_ne_bytes(number(self.state, sign)))
        })
    }

    /// Writes an entry that is there, or one that is not yet.
    fn write(&self, number: usize, count: u64, state: i64) {
        let mut value = vec![0; self.map.value_len()];
        self.map.lookup(&self.key(number), &mut value).unwrap();
        let slot = value.chunks_mut(self.map.layout().stride()).next_back().unwrap();
        let fill = |slot: &mut [u8], (at, size): (usize, usize), word: [u8; 8]| {
            slot[at..at + size].copy_from_slice(&word[..size]);
        };
        fill(slot, self.count, count.to_ne_bytes());
        fill(slot, self.state, state.to_ne_bytes());
        self.map.update(&self.key(number), &value, 0).unwrap();
    }

    fn change(&self, number: usize, count: u32, state: Option<i32>) {
        if let Some((before, was)) = self.read(number) {
            self.write(number, before + u64::from(count), state.map_or(was, i64::from));
        }
    }
}

fn definition(map_type: u32, value_size: u32) -> MapDef {
    MapDef {
        map_type,
        key_size: if map_type == BPF_MAP_TYPE_LPM_TRIE { 8 } else { 4 },
        value_size,
        // More than an LRU map holds back for each CPU.
        max_entries: 4096,
        flags: u32::from(map_type == BPF_MAP_TYPE_LPM_TRIE),
        map_extra: 0,
    }
}

/// Carries the entries over, and compares every one with what must become of it.
fn carry(map_type: u32, types: &Btf, entries: &[Entry], settle_between: bool) {
    let is_array = family(map_type) == Some(Family::Array);
    let make = |value_size, value_type_id| {
        let def = definition(map_type, value_size);
        // Keys of a trie have no type here; then neither has the value.
        let key_type_id = 1;
        let types =
            (map_type != BPF_MAP_TYPE_LPM_TRIE).then_some(MapBtf { btf: types, key_type_id, value_type_id });
        Map::create("carried", &def, types).unwrap()
    };
    // Without types, a trie's values go as a whole.
    let (new_size, new_type) = if map_type == BPF_MAP_TYPE_LPM_TRIE { (8, 5) } else { (24, 6) };
    let (old, new) = (make(8, 5), make(new_size, new_type));
    let base = Map::create("base", &base_definition(old.def(), new.def()), None).unwrap();
    let trio = Trio::new("m", old, base, new, Settings::default()).unwrap();
    let [(old, _), _, (new, _)] = trio.maps();
    let old = Side { map: old, count: (0, 4), state: (4, 4) };
    let new = match map_type {
        BPF_MAP_TYPE_LPM_TRIE => Side { map: new, count: (0, 4), state: (4, 4) },
        _ => Side { map: new, count: (8, 8), state: (0, 8) },
    };
    let fate = |entry: &Entry| if is_array { Fate::Stays } else { entry.fate };
    let begins = |entry: &Entry| matches!(fate(entry), Fate::Stays | Fate::OldRemoves | Fate::NewRemoves);
    let go_on = &mut |_| Ok(());

    for (number, entry) in entries.iter().enumerate().filter(|(_, entry)| begins(entry)) {
        old.write(number, u64::from(entry.start), 0);
    }
    trio.copy(go_on).unwrap();
    for (number, entry) in entries.iter().enumerate() {
        match fate(entry) {
            Fate::OldRemoves => drop(old.map.delete(&old.key(number)).unwrap()),
            Fate::NewRemoves => drop(new.map.delete(&new.key(number)).unwrap()),
            Fate::OldAdds => old.write(number, 0, 0),
            Fate::NewAdds => new.write(number, 0, 0),
            Fate::BothAdd => {
                old.write(number, 0, 0);
                new.write(number, 0, 0);
            }
            Fate::Stays => {}
        }
        old.change(number, entry.old[0], entry.old_state);
        new.change(number, entry.new[0], entry.new_state);
    }
    if settle_between {
        trio.settle(go_on).unwrap();
    }
    for (number, entry) in entries.iter().enumerate().filter(|(_, entry)| fate(entry) != Fate::OldRemoves) {
        old.change(number, entry.old[1], None);
        new.change(number, entry.new[1], None);
    }
    trio.settle(go_on).unwrap();
    trio.settle(go_on).unwrap();

    let counts = map_type != BPF_MAP_TYPE_LPM_TRIE;
    for (number, entry) in entries.iter().enumerate() {
        let context = format!("map type {map_type}, entry {number}: {entry:?}");
        let is_touched = entry.new[0] > 0 || entry.new_state.is_some_and(|state| state != 0);
        let sum = |rounds: [u32; 2]| u64::from(rounds[0]) + u64::from(rounds[1]);
        let start = if begins(entry) { u64::from(entry.start) } else { 0 };
        let found = new.read(number);
        match fate(entry) {
            Fate::OldRemoves => assert_eq!(found.is_some(), is_touched, "{context}"),
            Fate::NewRemoves => assert_eq!(found, None, "{context}"),
            _ => assert!(found.is_some(), "{context}"),
        }
        let Some((count, state)) = found.filter(|_| fate(entry) != Fate::OldRemoves && counts) else {
            continue;
        };
        let (by_old, by_new) = match fate(entry) {
            Fate::NewAdds => (0, sum(entry.new)),
            // The new program has it from when it is settled on.
            Fate::OldAdds if settle_between => (sum(entry.old), u64::from(entry.new[1])),
            Fate::OldAdds => (sum(entry.old), 0),
            _ => (sum(entry.old), sum(entry.new)),
        };
        assert_eq!(count, start + by_old + by_new, "{context}");
        let changed = |state: Option<i32>| state.filter(|state| *state != 0).map(i64::from);
        let expected = match fate(entry) {
            Fate::NewAdds => changed(entry.new_state),
            Fate::OldAdds => changed(entry.old_state),
            _ => changed(entry.new_state).or(changed(entry.old_state)),
        };
        assert_eq!(state, expected.unwrap_or(0), "{context}");
    }
    // Taken back: the old map has all that was counted.
    assert_eq!(trio.settle_back().unwrap(), 0);
    assert_eq!(trio.settle_back().unwrap(), 0);
    for (number, entry) in entries.iter().enumerate() {
        let (was, now) = (new.read(number), old.read(number));
        if fate(entry) == Fate::NewRemoves {
            assert!(now.is_some(), "map type {map_type}: removing is no count: {entry:?}");
        } else if let Some((count, _)) = was.filter(|_| counts) {
            assert_eq!(now.map(|(count, _)| count), Some(count), "map type {map_type}, {number}: {entry:?}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn no_entry_and_no_count_is_lost_whatever_both_programs_do() {
    if !xdpd_kernel::privilege::is_root() {
        return;
    }
    let types = types();
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    let input = (prop::collection::vec(entry(), 1..40), any::<bool>());
    let outcome = TestRunner::new(config).run(&input, |(entries, settle_between)| {
        for map_type in TYPES {
            carry(map_type, &types, &entries, settle_between);
        }
        Ok(())
    });
    outcome.unwrap();
}
