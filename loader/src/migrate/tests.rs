//! The mapping of definitions and values, without a kernel.

use std::os::fd::{AsFd, AsRawFd};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use xdpd_kernel::map::MapDef;
use xdpd_kernel::{Map, Program, cpu};

use super::program::{Descriptors, Direction};
use super::*;
use crate::object::{Field, FieldKind};

const HASH: u32 = BPF_MAP_TYPE_HASH;

fn def(map_type: u32, key_size: u32, value_size: u32, max_entries: u32) -> MapDef {
    MapDef { map_type, key_size, value_size, max_entries, ..MapDef::default() }
}

/// A field of whole bytes: `name`, or `name[n]` for an array.
fn field(path: &str, at: u32, size: u32, kind: FieldKind) -> Field {
    let count = path.split_once('[').map_or(1, |(_, n)| n.trim_end_matches(']').parse().unwrap());
    Field { path: path.to_owned(), offset: at * 8, size: size * count * 8, kind, element: size * 8 }
}

fn layout(fields: Vec<Field>) -> MapLayout {
    MapLayout { key: Layout(vec![field("", 0, 4, Unsigned)]), value: Layout(fields) }
}

fn size(layout: &MapLayout) -> u32 {
    layout.value.0.iter().map(|field| (field.offset + field.size).div_ceil(8)).max().unwrap_or(0)
}

fn between(old: &MapLayout, new: &MapLayout, settings: &Settings) -> Result<Mapping, String> {
    let (from, to) = (def(HASH, 4, size(old), 8), def(HASH, 4, size(new), 8));
    Mapping::between(Side { def: &from, layout: Some(old) }, Side { def: &to, layout: Some(new) }, settings)
}

fn merge(field: &str, rule: Merge) -> Settings {
    Settings { merge: [(field.to_owned(), rule)].into(), lossy: false }
}

fn lossy() -> Settings {
    Settings { lossy: true, ..Settings::default() }
}

use FieldKind::{Bool, Enum, Float, Kernel, Ordered, Pointer, Signed, Unsigned};

#[test]
fn what_becomes_of_each_field_is_said() {
    let old = layout(vec![
        field("same", 0, 8, Unsigned),
        field("grows", 8, 4, Unsigned),
        field("goes", 12, 4, Unsigned),
        field("list[2]", 16, 8, Unsigned),
        field("sign", 32, 4, Unsigned),
        field("next", 40, 8, Pointer),
        field("timer", 48, 16, Kernel),
        field("gone", 64, 8, Pointer),
    ]);
    let new = layout(vec![
        field("grows", 0, 8, Unsigned),
        field("same", 8, 8, Unsigned),
        field("comes", 16, 4, Unsigned),
        field("sign", 20, 4, Signed),
        field("list[4]", 24, 8, Unsigned),
        field("next", 56, 8, Pointer),
        field("timer", 64, 16, Kernel),
    ]);
    let notes = between(&old, &new, &Settings::default()).unwrap().notes;
    assert_eq!(
        notes,
        [
            "field `goes` is gone and its content lost",
            "field `grows` widened 32 -> 64 bits",
            "field `list` has 4 elements instead of 2",
            "field `next` is an address or something of the kernel's, which starts anew",
            "field `sign` is signed now",
            "field `timer` is an address or something of the kernel's, which starts anew",
            "field `comes` is new",
        ]
    );
}

#[test]
fn what_would_lose_a_part_of_a_field_is_refused_unless_allowed() {
    let cases = [
        (field("x", 0, 8, Unsigned), field("x", 0, 4, Unsigned), "narrowed 64 -> 32 bits"),
        (field("x[4]", 0, 8, Unsigned), field("x[2]", 0, 8, Unsigned), "2 elements instead of 4"),
        (field("x", 0, 8, Unsigned), field("x", 0, 8, Float), "another type"),
        (field("x", 0, 4, Unsigned), field("x", 0, 4, Ordered), "another type"),
        (field("x", 0, 1, Unsigned), field("x", 0, 1, Bool), "another type"),
        (field("x[4]", 0, 1, Signed), field("x", 0, 4, Signed), "another type"),
        (field("x", 0, 16, Unsigned), field("x", 0, 8, Unsigned), "another type"),
    ];
    for (old, new, why) in cases {
        let (old, new) = (layout(vec![old]), layout(vec![new]));
        let refusal = between(&old, &new, &Settings::default()).unwrap_err();
        assert!(refusal.contains(why) && refusal.contains("lossy = true"), "{refusal}");
        let allowed = between(&old, &new, &lossy()).unwrap();
        assert!(allowed.notes.iter().any(|note| note.contains(why)), "{allowed:?}");
    }
}

#[test]
fn counters_are_summed_and_everything_else_is_chosen() {
    let fields = vec![
        field("count", 0, 8, Unsigned),
        field("small", 8, 1, Unsigned),
        field("histogram[2]", 16, 4, Unsigned),
        field("mac[6]", 24, 1, Unsigned),
        field("signed", 32, 4, Signed),
        field("state", 36, 4, Enum),
        field("port", 40, 2, Ordered),
    ];
    let all = layout(fields);
    let mapping = between(&all, &all, &Settings::default()).unwrap();
    let sums: Vec<usize> = mapping.sums().map(|part| part.from).collect();
    assert_eq!(sums, [0, 16, 8]);
    let mapping = between(&all, &all, &merge("signed", Merge::Sum)).unwrap();
    assert!(mapping.sums().any(|part| part.from == 32));
    let mapping = between(&all, &all, &merge("count", Merge::Max)).unwrap();
    assert!(mapping.sums().all(|part| part.from != 0));
}

#[test]
fn bits_and_unions_are_carried_as_one() {
    let bits = |path: &str, offset, size| Field {
        path: path.to_owned(),
        offset,
        size,
        kind: Unsigned,
        element: size,
    };
    let flags = |at: u32| vec![bits("a", at, 3), bits("b", at + 3, 13), field("z", at / 8 + 4, 4, Unsigned)];
    let mapping = between(&layout(flags(0)), &layout(flags(64)), &Settings::default()).unwrap();
    assert_eq!(
        mapping.parts[0],
        Part { from: 0, to: 8, shape: Shape::Bytes(2), merge: Merge::New },
        "both bit fields, in two bytes"
    );
    let other = vec![bits("a", 0, 4), bits("b", 4, 12)];
    let refusal = between(&layout(flags(0)), &layout(other), &Settings::default()).unwrap_err();
    assert!(refusal.contains("field `a/b` has another type"), "{refusal}");
    let union = layout(vec![field("u.word", 0, 8, Unsigned), field("u.bytes[8]", 0, 1, Unsigned)]);
    let mapping = between(&union, &union, &Settings::default()).unwrap();
    assert_eq!(mapping.parts, [Part { from: 0, to: 0, shape: Shape::Bytes(8), merge: Merge::New }]);
}

#[test]
fn maps_whose_entries_do_not_correspond_are_refused() {
    fn plain(def: &MapDef) -> Side<'_> {
        Side { def, layout: None }
    }
    let refusal = |old: MapDef, new: MapDef| {
        Mapping::between(plain(&old), plain(&new), &Settings::default()).unwrap_err()
    };
    let hash = def(HASH, 4, 8, 8);
    for (old, new, why) in [
        (def(27, 0, 0, 4096), def(27, 0, 0, 8192), "maps of type ringbuf have no entries"),
        (hash, def(3, 4, 4, 8), "maps of type prog_array have no entries"),
        (hash, def(BPF_MAP_TYPE_PERCPU_HASH, 4, 8, 8), "only one of the two has a value for each CPU"),
        (hash, def(BPF_MAP_TYPE_ARRAY, 4, 8, 8), "their keys mean different things"),
        (hash, def(HASH, 8, 8, 8), "the key has 8 bytes instead of 4"),
        (hash, def(HASH, 4, 16, 8), "its values have 16 bytes instead of 8, and without type information"),
        (def(HASH, 4, 20000, 8), def(HASH, 4, 20000, 9), "at most 16384"),
        (hash, MapDef { flags: BPF_F_WRONLY_PROG, ..hash }, "programs may not read"),
    ] {
        let refusal = refusal(old, new);
        assert!(refusal.contains(why), "{refusal}");
    }
    let lru = def(BPF_MAP_TYPE_LRU_HASH, 4, 8, 16);
    let mapping = Mapping::between(plain(&hash), plain(&lru), &Settings::default()).unwrap();
    assert_eq!(mapping.parts, [Part { from: 0, to: 0, shape: Shape::Bytes(8), merge: Merge::New }]);
    let with_rule = Mapping::between(plain(&hash), plain(&lru), &merge("x", Merge::Max)).unwrap_err();
    assert!(with_rule.contains("`merge` needs type information"), "{with_rule}");
    let (one, mut other) = (layout(vec![]), layout(vec![]));
    other.key = Layout(vec![field("port", 0, 4, Unsigned)]);
    assert!(
        between(&one, &other, &Settings::default()).unwrap_err().contains("the fields of the key differ")
    );
}

#[test]
fn a_rule_is_checked_against_the_fields() {
    let value = layout(vec![field("packets", 0, 8, Unsigned), field("name[8]", 8, 1, Signed)]).value;
    let check = |field: &str, rule| check_rule(Some(&value), field, rule);
    assert_eq!(check("packets", Merge::Max), Ok(()));
    let (why, near) = check("packet", Merge::Max).unwrap_err();
    assert!(why.contains("no field `packet`; they have name, packets"), "{why}");
    assert_eq!(near.as_deref(), Some("packets"));
    assert!(check_rule(None, "packets", Merge::Max).unwrap_err().0.contains("BTF"));
    let plain = layout(vec![field("", 0, 8, Float)]).value;
    assert!(check_rule(Some(&plain), "value", Merge::Sum).unwrap_err().0.contains("whole numbers"));
}

#[test]
fn what_changes_on_both_sides_follows_the_rule() {
    let pair = layout(vec![field("x", 0, 4, Signed)]);
    let wide = layout(vec![field("x", 0, 8, Signed)]);
    let settled = |rule: Merge, old: i32, base: i32, new: i64| {
        let mapping = between(&pair, &wide, &merge("x", rule)).unwrap();
        let (mut base, mut new) = (base.to_ne_bytes(), new.to_ne_bytes());
        mapping.settle(&old.to_ne_bytes(), &mut base, &mut new);
        assert_eq!(i32::from_ne_bytes(base), old, "the base follows");
        let once = new;
        mapping.settle(&old.to_ne_bytes(), &mut base, &mut new);
        assert_eq!(new, once, "{rule} again changes nothing");
        i64::from_ne_bytes(new)
    };
    for rule in Merge::ALL {
        assert_eq!(settled(rule, -7, -5, -5), -7, "{rule}: only the old program changed it");
        assert_eq!(settled(rule, -5, -5, 9), 9, "{rule}: only the new program changed it");
    }
    assert_eq!(settled(Merge::New, -7, -5, -6), -6);
    assert_eq!(settled(Merge::Old, -7, -5, -6), -7);
    assert_eq!(settled(Merge::Max, -7, -5, -6), -6);
    assert_eq!(settled(Merge::Max, 3, -5, -6), 3);
    assert_eq!(settled(Merge::Sum, -7, -5, -6), -8);
}

#[test]
fn a_counter_that_wraps_or_falls_is_settled_by_its_difference() {
    let (narrow, wide) = (layout(vec![field("x", 0, 4, Unsigned)]), layout(vec![field("x", 0, 8, Unsigned)]));
    let mapping = between(&narrow, &wide, &Settings::default()).unwrap();
    let settled = |old: u32, base: u32, new: u64| {
        let (mut base, mut new) = (base.to_ne_bytes(), new.to_ne_bytes());
        mapping.settle(&old.to_ne_bytes(), &mut base, &mut new);
        u64::from_ne_bytes(new)
    };
    assert_eq!(settled(1, u32::MAX, u64::from(u32::MAX)), u64::from(u32::MAX) + 2);
    assert_eq!(settled(7, 10, 12), 9);
}

/// Values of random fields in two random orders, some of them only on one side, numbers wider on the new one.
#[derive(Debug, Clone)]
struct Change {
    old: MapLayout,
    new: MapLayout,
}

fn change() -> impl Strategy<Value = Change> {
    let kind = prop::sample::select(vec![Unsigned, Unsigned, Unsigned, Signed, Enum, Bool, Float, Ordered]);
    let one = (kind, 0..4_u32, 0..4_u32, 0..4_u32, 0..8_u8, any::<u16>());
    prop::collection::vec(one, 1..8).prop_map(|fields| {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (n, (kind, from, wider, count, side, order)) in fields.into_iter().enumerate() {
            let sizes = match kind {
                Bool => (1, 1),
                Float => (8, 8),
                Ordered => (4, 4),
                _ => (1 << from, 1 << from.max(wider)),
            };
            let path = if count > 1 { format!("f{n}[{count}]") } else { format!("f{n}") };
            if side != 0 {
                old.push((path.clone(), kind, sizes.0));
            }
            if side != 1 {
                new.insert(usize::from(order) % (new.len() + 1), (path, kind, sizes.1));
            }
        }
        let place = |fields: Vec<(String, FieldKind, u32)>| {
            let mut at = 0;
            let fields = fields.into_iter().map(|(path, kind, size)| {
                at = u32::next_multiple_of(at, size);
                let field = field(&path, at, size, kind);
                at += field.size / 8;
                field
            });
            layout(fields.collect())
        };
        Change { old: place(old), new: place(new) }
    })
}

/// Settles one entry of real maps, as the program does it and as it is done in memory.
fn settle_in_the_kernel(
    mapping: &Mapping,
    direction: Direction,
    map_type: u32,
    values: [&[u8]; 3],
) -> [[Vec<u8>; 3]; 2] {
    let maps = values.map(|value| {
        let size = u32::try_from(value.len()).unwrap();
        let map = Map::create("settle", &def(map_type, 4, size, 1), None).unwrap();
        let mut slots = vec![0; map.value_len()];
        slots.chunks_mut(map.layout().stride()).for_each(|slot| slot[..value.len()].copy_from_slice(value));
        map.update(&[0; 4], &slots, 0).unwrap();
        map
    });
    let [old, base, new] = maps.each_ref().map(|map| map.as_fd().as_raw_fd());
    let per_cpu = maps[0].def().is_per_cpu();
    let insns =
        program::instructions(mapping, direction, 4, per_cpu, Descriptors { old, base, new }).unwrap();
    let mut log = vec![0; 1 << 20];
    let program = Program::load_xdp("settle", &insns, c"GPL", Some(&mut log)).unwrap_or_else(|e| {
        panic!("{e}: {mapping:?}\n{}", String::from_utf8_lossy(&log).trim_end_matches('\0'))
    });
    let last = if per_cpu { cpu::possible().unwrap() - 1 } else { 0 };
    let run = program.test_run(&program::packet(u32::try_from(last).unwrap(), &[0; 4]), 1).unwrap();
    assert_eq!(run.return_value, program::SETTLED);
    let is = maps.each_ref().map(|map| {
        let mut value = vec![0; map.value_len()];
        assert!(map.lookup(&[0; 4], &mut value).unwrap());
        value[last * map.layout().stride()..][..map.def().value_size as usize].to_vec()
    });
    let [mut old, mut base, mut new] = values.map(<[u8]>::to_vec);
    match direction {
        Direction::Forward => mapping.settle(&old, &mut base, &mut new),
        Direction::Back => mapping.settle_back(&new, &mut base, &mut old),
    }
    [is, [old, base, new]]
}

#[test]
#[ignore = "needs root"]
fn programs_settle_as_it_is_done_in_memory() {
    if !xdpd_kernel::privilege::is_root() {
        return;
    }
    let rules = prop::collection::vec(prop::sample::select(Merge::ALL.to_vec()), 8);
    let bytes = || prop::collection::vec(any::<u8>(), 64);
    let input = (change(), rules, [bytes(), bytes(), bytes()], prop::collection::vec(any::<bool>(), 64));
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() });
    let outcome = runner.run(&input, |(change, rules, [old, new, other], equal)| {
        let Change { old: from, new: to } = &change;
        let merge = (0..8).map(|n| format!("f{n}")).zip(rules).filter(|(field, rule)| {
            [from, to].iter().all(|layout| check_rule(Some(&layout.value), field, *rule).is_ok())
        });
        let mapping = between(from, to, &Settings { merge: merge.collect(), lossy: false }).unwrap();
        prop_assume!(size(from) > 0 && size(to) > 0);
        let (old, mut base) = (value(from, &old), value(from, &other));
        base.iter_mut().zip(&old).zip(equal.iter().cycle()).for_each(|((base, old), equal)| {
            if *equal {
                *base = *old;
            }
        });
        let mut new = value(to, &new);
        if equal[0] {
            mapping.convert(&base, &mut new);
        }
        for map_type in [BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY] {
            for direction in [Direction::Forward, Direction::Back] {
                let [is, expected] = settle_in_the_kernel(&mapping, direction, map_type, [&old, &base, &new]);
                prop_assert_eq!(is, expected, "{:?} of {:?}", direction, mapping);
            }
        }
        Ok(())
    });
    outcome.unwrap();
    // As large as it may be, and nowhere aligned.
    let large = |at: u32| layout(vec![field("head", 0, 1, Unsigned), field("all[8000]", at, 1, Unsigned)]);
    let mapping = between(&large(1), &large(1), &Settings::default()).unwrap();
    let refusal = between(&large(1), &large(2), &Settings::default()).unwrap_err();
    assert!(refusal.contains("too large"), "{refusal}");
    let [old, base, new] = [1_u8, 2, 2].map(|byte| vec![byte; 8001]);
    for direction in [Direction::Forward, Direction::Back] {
        let [is, expected] =
            settle_in_the_kernel(&mapping, direction, BPF_MAP_TYPE_ARRAY, [&old, &base, &new]);
        assert_eq!(is, expected);
    }
}

/// The numbers or bytes of a field, by its path.
fn content(layout: &MapLayout, value: &[u8], path: &str) -> Option<Vec<i128>> {
    let field = layout.value.0.iter().find(|field| field.path == path)?;
    let (at, size) = (field.offset as usize / 8, field.element as usize / 8);
    let elements = value[at..at + field.size as usize / 8].chunks(size);
    Some(
        elements
            .map(|bytes| {
                let mut word = [if field.kind == Signed && bytes[size - 1] > 0x7f { 0xff } else { 0 }; 16];
                word[..size].copy_from_slice(bytes);
                i128::from_le_bytes(word)
            })
            .collect(),
    )
}

/// A value of this layout from random bytes.
fn value(layout: &MapLayout, bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().cycle().take(size(layout) as usize).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Every field that is in both is in the new value what it was, and every other field of it is as it began.
    #[test]
    fn no_matching_field_is_lost(change in change(), bytes in prop::collection::vec(any::<u8>(), 64)) {
        let Change { old, new } = &change;
        let mapping = between(old, new, &Settings::default()).unwrap();
        let from = value(old, &bytes);
        let mut to = vec![0xa5; size(new) as usize];
        mapping.convert(&from, &mut to);
        for field in &new.value.0 {
            let is = content(new, &to, &field.path).unwrap();
            match content(old, &from, &field.path) {
                Some(was) => prop_assert_eq!(is, was, "{}", field.path),
                None => prop_assert!(to[field.offset as usize / 8..][..field.size as usize / 8].iter().all(|b| *b == 0xa5)),
            }
        }
    }

    /// However the two programs count, and however often and in whichever direction it is settled: in the end both maps
    /// have all that was counted.
    #[test]
    fn no_count_is_lost_in_either_direction(
        change in change(),
        bytes in prop::collection::vec(any::<u8>(), 64),
        events in prop::collection::vec((0..4_u8, any::<prop::sample::Index>(), 1..100_u64), 0..40),
    ) {
        let Change { old, new } = &change;
        let mapping = between(old, new, &Settings::default()).unwrap();
        let sums: Vec<(usize, usize, usize, usize)> = mapping.sums().flat_map(Part::elements).collect();
        if sums.is_empty() {
            return Ok(());
        }
        let mut o = value(old, &bytes);
        let mut b = o.clone();
        let mut n = vec![0; size(new) as usize];
        mapping.convert(&o, &mut n);
        let add = |bytes: &mut [u8], at: usize, size: usize, count: u64| {
            let mut word = [0; 8];
            word[..size].copy_from_slice(&bytes[at..at + size]);
            let sum = u64::from_le_bytes(word).wrapping_add(count).to_le_bytes();
            bytes[at..at + size].copy_from_slice(&sum[..size]);
        };
        // All that was counted, in a value of the old layout.
        let mut all = o.clone();
        for (what, which, count) in events {
            // Little enough for the smallest of them.
            let (from, to, at_old, at_new) = *which.get(&sums);
            let count = count % 3;
            match what {
                0 => add(&mut o, at_old, from, count),
                1 => add(&mut n, at_new, to, count),
                2 => mapping.settle(&o, &mut b, &mut n),
                _ => mapping.settle_back(&n, &mut b, &mut o),
            }
            if what < 2 {
                add(&mut all, at_old, from, count);
            }
        }
        mapping.settle_back(&n, &mut b, &mut o);
        prop_assert!(!mapping.counted(&n, &b));
        mapping.settle(&o, &mut b, &mut n);
        for (from, _, at_old, at_new) in sums {
            prop_assert_eq!(&o[at_old..at_old + from], &all[at_old..at_old + from]);
            prop_assert_eq!(&n[at_new..at_new + from], &all[at_old..at_old + from], "the low bytes");
        }
    }
}
