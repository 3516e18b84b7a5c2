//! Maps and their entries.

use std::collections::BTreeMap;

use xdpd_kernel::map_types::{
    BPF_F_MMAPABLE, BPF_F_NUMA_NODE, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH,
    BPF_MAP_TYPE_HASH_OF_MAPS, BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH,
    BPF_MAP_TYPE_PROG_ARRAY, BPF_MAP_TYPE_RINGBUF,
};
use xdpd_kernel::{Map, MapDef, MapExtras, MappedValue, cpu};
use xdpd_testlab::require_root;

use crate::lab::{counters, def, eventually, pass};

/// Fills each slot of each entry with bytes of its own.
fn fill(map: &Map) {
    for key in 0..map.def().max_entries {
        let mut value = vec![0; map.value_len()];
        for (slot, bytes) in value.chunks_mut(map.layout().stride()).enumerate() {
            bytes.fill(u8::try_from((key as usize * 10 + slot) % 255 + 1).unwrap());
        }
        map.update(&key.to_ne_bytes(), &value, 0).unwrap();
    }
}

/// What one batch finds equals what single lookups find.
fn check_batch(map: &Map) {
    let entries = map.def().max_entries;
    let mut keys = vec![0; entries as usize * map.key_len()];
    let mut values = vec![0; entries as usize * map.value_len()];
    assert_eq!(map.lookup_batch(&mut keys, &mut values, &mut [0; 4]).unwrap(), entries as usize);
    for (key, found) in (0..entries).zip(values.chunks(map.value_len())) {
        let mut value = vec![0; map.value_len()];
        assert!(map.lookup(&key.to_ne_bytes(), &mut value).unwrap());
        assert_eq!(found, value, "key {key}");
        assert!(value.chunks(map.layout().stride()).all(|slot| slot[0] != 0));
    }
}

#[test]
#[ignore = "needs root"]
fn a_batch_read_equals_single_lookups() {
    require_root!();
    let shapes = [
        (BPF_MAP_TYPE_PERCPU_ARRAY, 16, 5),
        (BPF_MAP_TYPE_ARRAY, 16, 5),
        (BPF_MAP_TYPE_PERCPU_ARRAY, 12, 3),
        (BPF_MAP_TYPE_ARRAY, 12, 3),
        (BPF_MAP_TYPE_PERCPU_ARRAY, 8, 20),
    ];
    for (map_type, value_size, entries) in shapes {
        let map = Map::create("m", &def(map_type, 4, value_size, entries), None).unwrap();
        fill(&map);
        check_batch(&map);
    }
}

#[test]
#[ignore = "needs root"]
fn per_cpu_maps_have_a_slot_for_each_possible_cpu() {
    require_root!();
    let map = counters("m");
    assert_eq!(map.layout().count(), cpu::possible().unwrap());
    assert_eq!(map.value_len(), 16 * map.layout().count());
    let map = Map::create("m", &def(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 12, 5), None).unwrap();
    assert_eq!(map.layout().stride(), 16);
    let map = Map::create("m", &def(BPF_MAP_TYPE_ARRAY, 4, 12, 5), None).unwrap();
    assert_eq!((map.layout().count(), map.layout().stride(), map.value_len()), (1, 12, 12));
}

#[test]
#[ignore = "needs root"]
fn a_buffer_of_the_wrong_length_is_an_error() {
    require_root!();
    let map = counters("m");
    let (key, value) = ([0; 4], vec![0; map.value_len()]);
    let refused = |result: xdpd_kernel::Result<bool>| assert_eq!(result.unwrap_err().errno(), None);
    for len in [0, 16, map.value_len() - 1, map.value_len() + 1] {
        refused(map.lookup(&key, &mut vec![0; len]));
        refused(map.update(&key, &vec![0; len], 0).map(|()| true));
    }
    for len in [0, 3, 5, 8] {
        let key = vec![0; len];
        refused(map.lookup(&key, &mut value.clone()));
        refused(map.update(&key, &value, 0).map(|()| true));
        refused(map.delete(&key));
    }
    let (mut keys, mut values, mut position) = (vec![0; 20], vec![0; 5 * map.value_len()], [0; 4]);
    assert_eq!(map.lookup_batch(&mut keys, &mut values, &mut position).unwrap(), 5);
    refused(map.lookup_batch(&mut keys, &mut values[1..], &mut position).map(|_| true));
    refused(map.lookup_batch(&mut keys[1..], &mut values, &mut position).map(|_| true));
    refused(map.lookup_batch(&mut keys, &mut values, &mut position[1..]).map(|_| true));
    let error = map.lookup(&key, &mut [0; 16]).unwrap_err();
    let expected =
        format!("BPF_MAP_LOOKUP_ELEM of map m: buffer of 16 bytes for a value of {} bytes", map.value_len());
    assert_eq!(error.to_string(), expected);
}

#[test]
#[ignore = "needs root"]
fn entries_of_a_hash_come_and_go() {
    require_root!();
    let map = Map::create("m", &def(BPF_MAP_TYPE_HASH, 2, 8, 8), None).unwrap();
    assert_eq!(map.keys().count(), 0);
    for key in 0..5_u16 {
        map.update(&key.to_ne_bytes(), &[7; 8], 1).unwrap();
    }
    assert_eq!(map.update(&[0; 2], &[7; 8], 1).unwrap_err().errno(), Some(libc::EEXIST));
    let mut keys: Vec<_> =
        map.keys().map(|key| u16::from_ne_bytes(key.unwrap().try_into().unwrap())).collect();
    keys.sort_unstable();
    assert_eq!(keys, [0, 1, 2, 3, 4]);
    let (mut keys, mut values) = ([0; 16], [0; 64]);
    assert_eq!(map.lookup_batch(&mut keys, &mut values, &mut [0; 4]).unwrap(), 5);
    assert_eq!(values[..40], [7; 40]);
    assert!(map.delete(&[0; 2]).unwrap());
    assert!(!map.delete(&[0; 2]).unwrap());
    assert!(!map.lookup(&[0; 2], &mut [0; 8]).unwrap());
    assert_eq!(map.update(&[0; 2], &[7; 8], 2).unwrap_err().errno(), Some(libc::ENOENT));
}

#[test]
#[ignore = "needs root"]
fn a_map_knows_its_definition() {
    require_root!();
    let wanted = MapDef { flags: 1 << 10, ..def(BPF_MAP_TYPE_ARRAY, 4, 64, 10) };
    let map = Map::create("a_name_that_is_longer_than_15", &wanted, None).unwrap();
    assert_eq!(map.def(), &wanted);
    assert_eq!(map.info().name, "a_name_that_is_");
    assert_eq!(map.info().btf_id, None);
    let same = Map::open_by_id(map.id()).unwrap();
    assert_eq!(same.info(), map.info());
    let error = Map::create("bad", &def(BPF_MAP_TYPE_PERCPU_ARRAY, 8, 16, 5), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "BPF_MAP_CREATE of map bad (percpu_array with 8-byte keys, 16-byte values, 5 entries): \
         Invalid argument (EINVAL)"
    );
}

#[test]
#[ignore = "needs root"]
fn a_frozen_map_takes_no_update() {
    require_root!();
    let map = Map::create("m", &def(BPF_MAP_TYPE_ARRAY, 4, 8, 1), None).unwrap();
    map.freeze().unwrap();
    assert_eq!(map.update(&[0; 4], &[0; 8], 0).unwrap_err().errno(), Some(libc::EPERM));
}

#[test]
#[ignore = "needs root"]
fn objects_are_found_by_id_until_they_are_gone() {
    require_root!();
    let (map, program) = (counters("m"), pass("p"));
    let (map_id, program_id) = (map.id(), program.info().unwrap().id);
    assert!(Map::ids().any(|id| id.unwrap() == map_id));
    assert!(xdpd_kernel::Program::ids().any(|id| id.unwrap() == program_id));
    drop((map, program));
    eventually("the map is freed", || Map::ids().all(|id| id.unwrap() != map_id));
    eventually("the program is freed", || {
        xdpd_kernel::Program::open_by_id(program_id).is_err_and(|error| error.errno() == Some(libc::ENOENT))
    });
}

#[test]
#[ignore = "needs root"]
fn btf_goes_in_and_out_unchanged() {
    require_root!();
    let data = int_btf();
    let btf = xdpd_kernel::Btf::load(&data).unwrap();
    assert_eq!(btf.raw().unwrap(), data);
    let id = btf.id().unwrap();
    assert_eq!(xdpd_kernel::Btf::find_by_id(id).unwrap().unwrap().raw().unwrap(), data);
    let types = xdpd_kernel::MapBtf { btf: &btf, key_type_id: 1, value_type_id: 1 };
    let map = Map::create("m", &def(BPF_MAP_TYPE_ARRAY, 4, 4, 1), Some(types)).unwrap();
    assert_eq!(map.info().btf_id, Some(id));
    assert_eq!((map.info().btf_key_type_id, map.info().btf_value_type_id), (1, 1));
    assert_eq!(xdpd_kernel::Btf::load(b"nonsense").unwrap_err().errno(), Some(libc::EINVAL));
}

/// The smallest type information that a map can use: `unsigned int`.
fn int_btf() -> Vec<u8> {
    let strings = b"\0unsigned int\0";
    let types: [u32; 4] = [1, 1 << 24, 4, 32]; // name, kind INT, size, bits
    let mut data = Vec::new();
    data.extend(0xeb9f_u16.to_ne_bytes());
    data.extend([1, 0]); // version, flags
    for number in [24_u32, 0, 16, 16, u32::try_from(strings.len()).unwrap()] {
        data.extend(number.to_ne_bytes());
    }
    data.extend(types.iter().flat_map(|number| number.to_ne_bytes()));
    data.extend(strings);
    data
}

/// Every entry, in the order of the keys.
fn content(map: &Map) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (mut found, mut shown) = (BTreeMap::new(), 0);
    map.for_each(|key, value| {
        found.insert(key.to_vec(), value.to_vec());
        shown += 1;
    })
    .unwrap();
    assert_eq!(found.len(), shown, "each is shown once");
    found
}

#[test]
#[ignore = "needs root"]
fn all_entries_are_written_read_and_removed_at_once() {
    require_root!();
    let no_prealloc = 1;
    for (map_type, flags) in [
        (BPF_MAP_TYPE_HASH, 0),
        (BPF_MAP_TYPE_HASH, no_prealloc),
        (BPF_MAP_TYPE_PERCPU_HASH, 0),
        (BPF_MAP_TYPE_LPM_TRIE, no_prealloc),
    ] {
        for count in [0_u32, 1, 3, 1000, 70_000] {
            let wanted = MapDef { flags, ..def(map_type, 8, 12, count.max(1)) };
            let map = Map::create("m", &wanted, None).unwrap();
            // In a trie: the length of a prefix, and the address.
            let key = |n: u32| [32_u32.to_ne_bytes(), n.to_be_bytes()].concat();
            let value =
                |n: u32| n.to_ne_bytes().into_iter().cycle().take(map.value_len()).collect::<Vec<_>>();
            let keys: Vec<u8> = (0..count).flat_map(key).collect();
            let values: Vec<u8> = (0..count).flat_map(value).collect();
            map.update_all(&keys, &values).unwrap();
            let found = content(&map);
            assert_eq!(found.len(), count as usize, "{wanted}");
            for n in 0..count {
                // What lies between the values of two CPUs is the kernel's.
                let slots = |value: &[u8]| {
                    value.chunks(map.layout().stride()).map(|slot| slot[..12].to_vec()).collect::<Vec<_>>()
                };
                assert_eq!(slots(&found[&key(n)]), slots(&value(n)), "{wanted}: {n}");
            }
            // One that is gone already does not keep the others.
            if count > 2 {
                assert!(map.delete(&key(1)).unwrap());
            }
            map.delete_all(&keys).unwrap();
            assert_eq!(content(&map).len(), 0, "{wanted}");
            map.delete_all(&keys).unwrap();
        }
    }
}

#[test]
#[ignore = "needs root"]
fn all_entries_of_arrays_are_written_and_read_at_once() {
    require_root!();
    for map_type in [BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY] {
        let map = Map::create("m", &def(map_type, 4, 8, 70_000), None).unwrap();
        let keys: Vec<u8> = (0..70_000_u32).flat_map(u32::to_ne_bytes).collect();
        map.update_all(&keys, &vec![5; 70_000 * map.value_len()]).unwrap();
        let found = content(&map);
        assert_eq!(found.len(), 70_000);
        assert!(found.values().flatten().all(|byte| *byte == 5));
    }
}

#[test]
#[ignore = "needs root"]
fn a_full_map_takes_what_it_has_and_no_more() {
    require_root!();
    let map = Map::create("m", &def(BPF_MAP_TYPE_HASH, 4, 4, 2), None).unwrap();
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<_>>();
    map.update_all(&numbers(&[1, 2]), &numbers(&[1, 2])).unwrap();
    map.update_all(&numbers(&[1, 2]), &numbers(&[3, 4])).unwrap();
    let error = map.update_all(&numbers(&[2, 3]), &numbers(&[5, 6])).unwrap_err();
    assert_eq!((error.call(), error.errno()), ("BPF_MAP_UPDATE_BATCH", Some(libc::E2BIG)));
    let expected = [(1_u32, 3_u32), (2, 5)].map(|(key, value)| (numbers(&[key]), numbers(&[value])));
    assert_eq!(content(&map), BTreeMap::from(expected));
    for (keys, values) in [(3, 4), (4, 3), (8, 4)] {
        assert_eq!(map.update_all(&vec![0; keys], &vec![0; values]).unwrap_err().errno(), None);
    }
    assert_eq!(map.delete_all(&[0; 3]).unwrap_err().errno(), None);
}

/// A map with one value of `size` bytes, all 0xaa.
fn shared(size: u32, flags: u32) -> Map {
    let map = Map::create("m", &MapDef { flags, ..def(BPF_MAP_TYPE_ARRAY, 4, size, 1) }, None).unwrap();
    map.update(&0u32.to_ne_bytes(), &vec![0xaa; size as usize], 0).unwrap();
    map
}

#[test]
#[ignore = "needs root"]
fn a_store_changes_nothing_but_its_bytes() {
    const SIZE: u32 = 5000;
    require_root!();
    let map = shared(SIZE, BPF_F_MMAPABLE);
    let value = MappedValue::map(&map).unwrap();
    let mut expected = vec![0xaa; SIZE as usize];
    let mut next = 0;
    for (offset, len) in
        [(0, 8), (8, 4), (13, 1), (14, 2), (17, 23), (41, 7), (4090, 20), (4992, 8), (5000, 0)]
    {
        let bytes: Vec<u8> = (0..len).map(|n| next + n).collect();
        next += len;
        value.store(offset, &bytes).unwrap();
        expected[offset..offset + bytes.len()].copy_from_slice(&bytes);
        let mut found = vec![0; map.value_len()];
        assert!(map.lookup(&0u32.to_ne_bytes(), &mut found).unwrap());
        assert_eq!(found, expected, "{len} bytes at {offset}");
    }
    for (offset, len) in [(4999, 2), (5001, 0), (usize::MAX, 1)] {
        assert_eq!(value.store(offset, &vec![0; len]).unwrap_err().errno(), None, "{len} at {offset}");
    }
}

/// The variable beside it is written all the while.
#[test]
#[ignore = "needs root"]
fn stores_do_not_disturb_what_others_write_beside_them() {
    require_root!();
    let map = shared(16, BPF_F_MMAPABLE);
    map.update(&0u32.to_ne_bytes(), &[0; 16], 0).unwrap();
    let count_at = |offset: usize| {
        let value = MappedValue::map(&map).unwrap();
        (0..=100_000_u32).for_each(|n| value.store(offset, &n.to_ne_bytes()).unwrap());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| count_at(0));
        scope.spawn(|| count_at(4));
    });
    let mut found = vec![0; 16];
    assert!(map.lookup(&0u32.to_ne_bytes(), &mut found).unwrap());
    assert_eq!(found[..8], [100_000_u32.to_ne_bytes(), 100_000_u32.to_ne_bytes()].concat());
}

#[test]
#[ignore = "needs root"]
fn only_a_map_that_shares_its_memory_is_mapped() {
    require_root!();
    for map in
        [shared(8, 0), counters("m"), Map::create("m", &def(BPF_MAP_TYPE_HASH, 4, 8, 1), None).unwrap()]
    {
        assert!(!MappedValue::is_possible(&map));
        assert_eq!(MappedValue::map(&map).unwrap_err().errno(), None);
    }
    let two = Map::create("m", &MapDef { flags: BPF_F_MMAPABLE, ..def(BPF_MAP_TYPE_ARRAY, 4, 8, 2) }, None)
        .unwrap();
    assert_eq!(MappedValue::map(&two).unwrap_err().errno(), None);
}

#[test]
#[ignore = "needs root"]
fn a_map_of_maps_holds_maps_like_its_pattern_and_tells_their_ids() {
    require_root!();
    let inner = |entries| Map::create("inner", &def(BPF_MAP_TYPE_ARRAY, 4, 8, entries), None).unwrap();
    let (pattern, other) = (inner(5), inner(6));
    for map_type in [BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS] {
        let def = def(map_type, 4, 4, 4);
        let extras = MapExtras { inner: Some(&pattern), ..MapExtras::default() };
        let outer = Map::create_with("outer", &def, extras).unwrap();
        let held = [inner(5), inner(5)];
        let keys = [1_u32, 3].map(u32::to_ne_bytes);
        outer.put(&keys[0], &held[0]).unwrap();
        outer.put_all(keys.iter().map(|key| &key[..]).zip(&held)).unwrap();
        assert_eq!(outer.put(&0_u32.to_ne_bytes(), &other).unwrap_err().errno(), Some(libc::EINVAL));
        let refused = outer.put_all([(&0_u32.to_ne_bytes()[..], &other)]).unwrap_err();
        assert_eq!(refused.errno(), Some(libc::EINVAL));
        let mut found = BTreeMap::new();
        outer.for_each(|key, value| drop(found.insert(key.to_vec(), value.to_vec()))).unwrap();
        let expected = [1_u32, 3].into_iter().zip(held.map(|map| map.id().0));
        let expected = expected.map(|(index, id)| (index.to_ne_bytes().to_vec(), id.to_ne_bytes().to_vec()));
        assert_eq!(found, expected.collect());
    }
}

#[test]
#[ignore = "needs root"]
fn a_program_array_tells_the_ids_of_its_programs() {
    require_root!();
    let array = Map::create("next", &def(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2), None).unwrap();
    let program = pass("held");
    array.put(&1_u32.to_ne_bytes(), &program).unwrap();
    let mut id = [0; 4];
    assert!(!array.lookup(&0_u32.to_ne_bytes(), &mut id).unwrap());
    assert!(array.lookup(&1_u32.to_ne_bytes(), &mut id).unwrap());
    assert_eq!(u32::from_ne_bytes(id), program.info().unwrap().id.0);
}

#[test]
#[ignore = "needs root"]
fn a_map_is_made_on_the_memory_node_that_its_flags_speak_of() {
    require_root!();
    let on = |flags, numa_node| {
        let extras = MapExtras { numa_node, ..MapExtras::default() };
        Map::create_with("m", &MapDef { flags, ..def(BPF_MAP_TYPE_HASH, 4, 8, 1) }, extras)
            .map(|map| map.def().flags)
    };
    assert_eq!(on(BPF_F_NUMA_NODE, 0).unwrap(), BPF_F_NUMA_NODE);
    assert_eq!(on(BPF_F_NUMA_NODE, 9999).unwrap_err().errno(), Some(libc::EINVAL));
    assert_eq!(on(0, 9999).unwrap(), 0);
}

/// Of types whose entries are no entries, or whose size is not known here, nothing is asked for: see `map::layout`.
#[test]
#[ignore = "needs root"]
fn maps_whose_entries_have_no_size_that_is_known_are_not_accessed() {
    require_root!();
    let page = u32::try_from(rustix::param::page_size()).unwrap();
    let (perf_event_array, cgroup_array, reuseport_sockarray, user_ringbuf) = (4, 8, 20, 31);
    for (map_type, sizes, entries) in [
        (BPF_MAP_TYPE_RINGBUF, (0, 0), page),
        (user_ringbuf, (0, 0), page),
        (perf_event_array, (4, 4), 2),
        (cgroup_array, (4, 4), 2),
        (reuseport_sockarray, (4, 8), 2),
    ] {
        let map = Map::create("m", &def(map_type, sizes.0, sizes.1, entries), None).unwrap();
        let (key, mut value) = (vec![0; map.key_len()], vec![0; map.value_len()]);
        let (mut keys, mut values) = (key.clone(), value.clone());
        let mut position = vec![0; map.key_len().max(4)];
        let refused = [
            map.lookup(&key, &mut value).map(drop),
            map.update(&key, &value, 0),
            map.delete(&key).map(drop),
            map.keys().try_for_each(|key| key.map(drop)),
            map.lookup_batch(&mut keys, &mut values, &mut position).map(drop),
            map.for_each(|_, _| ()),
            map.lookup_run(0, &mut values),
            map.update_all(&keys, &values),
            map.delete_all(&keys),
        ];
        let name = xdpd_kernel::map_type_name(map_type);
        for error in refused.map(Result::unwrap_err) {
            let reason = format!("its entries are neither read nor written here: its type is {name}");
            assert_eq!((error.errno(), error.reason()), (None, reason));
        }
    }
}
