//! Every kind of change of a map's definition under every policy, while packets flow: what the plan says, what apply
//! does, and what the entries are afterwards.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{DROP, Site, compile_with};
use serde_json::Value;
use xdpd_kernel::{Access, Map};
use xdpd_testlab::{DEADLINE, Veth, require_root, wait_until};

/// What `migrate` makes of a change of the definition.
#[derive(Clone, Copy)]
enum Migrate {
    /// The plan says this, and all is carried over.
    Carried(&'static str),
    /// The plan says this, and not all is: the map holds so many entries.
    Partly(&'static str, usize),
    /// The plan is blocked for this reason.
    Blocked(&'static str),
    /// There is no other definition.
    Same,
}
use Migrate::{Blocked, Carried, Partly, Same};

/// Bytes from the start of a value, and how many.
type Place = (usize, usize);

struct Case {
    name: &'static str,
    /// How the two versions are compiled.
    old: &'static [&'static str],
    new: &'static [&'static str],
    /// Of [programs.p.maps.state].
    settings: &'static str,
    migrate: Migrate,
    /// Places and sizes of numbers in the old value and in the new one; the first counts packets.
    fields: &'static [(Place, Place)],
    /// Keys of 4 bytes that are in the map beside that of the packets; those of a trie are prefixes.
    keys: u32,
}

const PACKETS: (Place, Place) = ((0, 8), (0, 8));
const ATOMIC: &str = "COUNT=__sync_fetch_and_add(&entry->packets,1)";
const TRIE: [&str; 4] = [
    "TYPE=BPF_MAP_TYPE_LPM_TRIE",
    "KEY=struct prefix {__u32 bits;__u32 data;}",
    "FLAGS=BPF_F_NO_PREALLOC",
    "KEY_OF_PACKETS=32,1",
];

const CASES: &[Case] = &[
    Case {
        name: "the same definition",
        old: &[],
        new: &["COUNT=entry->packets++; if (ctx->data == 0) action = XDP_ABORTED"],
        settings: "",
        migrate: Same,
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "more room",
        old: &[],
        new: &["ENTRIES=32"],
        settings: "",
        migrate: Carried("entries are carried over: max entries 16 -> 32"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "less room that is enough",
        old: &[],
        new: &["ENTRIES=8"],
        settings: "",
        migrate: Carried("entries are carried over: max entries 16 -> 8"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "less room than entries",
        old: &[],
        new: &["ENTRIES=3"],
        settings: "",
        migrate: Blocked(
            "it has no room for 3 entries; make it larger, or allow their loss with lossy = true",
        ),
        fields: &[PACKETS],
        keys: 5,
    },
    Case {
        name: "less room than entries, and loss allowed",
        old: &[],
        new: &["ENTRIES=3"],
        settings: "lossy = true",
        migrate: Partly("no room for 3 entries, or for more if more come: they are lost", 3),
        fields: &[],
        keys: 5,
    },
    Case {
        name: "a field that is new",
        old: &["FIELDS=__u64 packets;__u32 a;"],
        new: &["FIELDS=__u64 packets;__u32 b;__u32 a;"],
        settings: "",
        migrate: Carried("entries are carried over: field `b` is new"),
        fields: &[PACKETS, ((8, 4), (12, 4))],
        keys: 3,
    },
    Case {
        name: "a field that is gone",
        old: &["FIELDS=__u64 packets;__u64 a;__u64 b;"],
        new: &["FIELDS=__u64 packets;__u64 b;"],
        settings: "",
        migrate: Carried("entries are carried over: field `a` is gone and its content lost"),
        fields: &[PACKETS, ((16, 8), (8, 8))],
        keys: 3,
    },
    Case {
        name: "a field that is wider",
        old: &["FIELDS=__u32 packets;__u16 a;"],
        new: &["FIELDS=__u64 packets;__u32 a;"],
        settings: "",
        migrate: Carried("field `a` widened 16 -> 32 bits, field `packets` widened 32 -> 64 bits"),
        fields: &[((0, 4), (0, 8)), ((4, 2), (8, 4))],
        keys: 3,
    },
    Case {
        name: "fields in another order",
        old: &["FIELDS=__u64 packets;__u64 a;"],
        new: &["FIELDS=__u64 a;__u64 packets;"],
        settings: "",
        migrate: Carried("entries are carried over"),
        fields: &[((0, 8), (8, 8)), ((8, 8), (0, 8))],
        keys: 3,
    },
    Case {
        name: "a field that is narrower",
        old: &["FIELDS=__u64 packets;__u64 a;"],
        new: &["FIELDS=__u64 packets;__u32 a;"],
        settings: "",
        migrate: Blocked("field `a` narrowed 64 -> 32 bits"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "a field of another type",
        old: &["FIELDS=__u64 packets;__u64 a;"],
        new: &["FIELDS=__u64 packets;char a[8];"],
        settings: "",
        migrate: Blocked("field `a` has another type"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "another type of map, of the same kind",
        old: &[],
        new: &["TYPE=BPF_MAP_TYPE_LRU_PERCPU_HASH", "ENTRIES=512"],
        settings: "",
        migrate: Carried("type percpu_hash -> lru_percpu_hash, max entries 16 -> 512"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "values of CPUs that become one",
        old: &[],
        new: &["TYPE=BPF_MAP_TYPE_HASH", ATOMIC],
        settings: "",
        migrate: Blocked("only one of the two has a value for each CPU"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "a hash that becomes an array",
        old: &[],
        new: &["TYPE=BPF_MAP_TYPE_PERCPU_ARRAY"],
        settings: "",
        migrate: Blocked("their keys mean different things"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "a larger key",
        old: &[],
        new: &["KEY=__u64"],
        settings: "",
        migrate: Blocked("the key has 8 bytes instead of 4"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "a key with other fields",
        old: &["KEY=struct key {__u16 a;__u16 b;}", "KEY_OF_PACKETS=1,0"],
        new: &["KEY=struct key {__u16 a;__u16 c;}", "KEY_OF_PACKETS=1,0"],
        settings: "",
        migrate: Blocked("the fields of the key differ"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "other flags",
        old: &["TYPE=BPF_MAP_TYPE_HASH", ATOMIC],
        new: &["TYPE=BPF_MAP_TYPE_HASH", ATOMIC, "FLAGS=BPF_F_NO_PREALLOC"],
        settings: "",
        migrate: Carried("entries are carried over: flags 0x0 -> 0x1"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "values without types",
        old: &["NO_TYPES"],
        new: &["NO_TYPES", "ENTRIES=32"],
        settings: "",
        // What both programs count in the same value cannot be told apart.
        migrate: Partly("values are carried as a whole, for there is no type information", 4),
        fields: &[],
        keys: 3,
    },
    Case {
        name: "values without types, of another size",
        old: &["NO_TYPES"],
        new: &["NO_TYPES", "FIELDS=__u64 packets;__u64 a;"],
        settings: "",
        migrate: Blocked("nothing tells which is which"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "a larger array",
        old: &["TYPE=BPF_MAP_TYPE_PERCPU_ARRAY"],
        new: &["TYPE=BPF_MAP_TYPE_PERCPU_ARRAY", "ENTRIES=32"],
        settings: "",
        migrate: Carried("entries are carried over: max entries 16 -> 32"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "a smaller array, with nothing beyond its end",
        old: &["TYPE=BPF_MAP_TYPE_PERCPU_ARRAY"],
        new: &["TYPE=BPF_MAP_TYPE_PERCPU_ARRAY", "ENTRIES=5"],
        settings: "",
        migrate: Carried("entries are carried over: max entries 16 -> 5"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "a smaller array, with something beyond its end",
        old: &["TYPE=BPF_MAP_TYPE_PERCPU_ARRAY"],
        new: &["TYPE=BPF_MAP_TYPE_PERCPU_ARRAY", "ENTRIES=4"],
        settings: "",
        migrate: Blocked("it has no room for 1 entry"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "a larger trie",
        old: &[TRIE[0], TRIE[1], TRIE[2], TRIE[3], ATOMIC],
        new: &[TRIE[0], TRIE[1], TRIE[2], TRIE[3], ATOMIC, "ENTRIES=32"],
        settings: "",
        migrate: Carried("entries are carried over: max entries 16 -> 32"),
        fields: &[PACKETS],
        keys: 3,
    },
    Case {
        name: "a ring",
        old: &["TYPE=BPF_MAP_TYPE_RINGBUF", "ENTRIES=4096", "NO_ENTRIES"],
        new: &["TYPE=BPF_MAP_TYPE_RINGBUF", "ENTRIES=8192", "NO_ENTRIES"],
        settings: "",
        migrate: Blocked("maps of type ringbuf have no entries that could be carried over"),
        fields: &[],
        keys: 0,
    },
];

struct Stand<'c> {
    case: &'c Case,
    site: Site,
    veth: Veth,
}

impl Stand<'_> {
    fn file(&self, object: &str, reuse: &str) {
        self.site.config(&format!(
            "reuse = \"{reuse}\"\n[programs.p]\nobject = \"{object}\"\n[programs.p.maps.state]\n{}\n\
             [programs.p.maps.xdp_stats_map]\nreuse = \"if-compatible\"\n[interfaces.eth0]\nnetns = \"$NETNS\"\nprogram = \"p\"\n",
            self.case.settings
        ));
    }

    fn state(&self) -> Map {
        self.site.dir("eth0").open_map("state", Access::ReadWrite).unwrap()
    }

    fn has_entries(&self) -> bool {
        self.state().key_len() > 0
    }

    /// The entries from 2 on hold something of their own in each field and slot; that of the packets begins at zero.
    fn fill(&self) {
        if !self.has_entries() {
            return;
        }
        let map = self.state();
        for number in 1..=self.case.keys + 1 {
            let mut value = vec![0; map.value_len()];
            for (slot, bytes) in value.chunks_mut(map.layout().stride()).enumerate() {
                let places: Vec<Place> = self.case.fields.iter().map(|(old, _)| *old).collect();
                let places = if places.is_empty() { vec![(0, 8)] } else { places };
                for (field, (at, size)) in places.into_iter().enumerate() {
                    if number > 1 {
                        write(&mut bytes[at..at + size], number_of(number, slot, field));
                    }
                }
            }
            map.update(&key(&map, number), &value, 0).unwrap();
        }
    }

    /// All entries are in the map, with what they held, and the packets in their place.
    fn assert_carried(&self, sent: u64, context: &str) {
        let map = self.state();
        let mut value = vec![0; map.value_len()];
        for number in 1..=self.case.keys + 1 {
            assert!(map.lookup(&key(&map, number), &mut value).unwrap(), "{context}: entry {number}");
            for (field, (_, (at, size))) in self.case.fields.iter().enumerate() {
                let slots = value.chunks(map.layout().stride()).enumerate();
                let found: Vec<u64> = slots.clone().map(|(_, bytes)| read(&bytes[*at..at + size])).collect();
                if number > 1 {
                    let expected: Vec<u64> =
                        slots.map(|(slot, _)| u64::from(number_of(number, slot, field))).collect();
                    assert_eq!(found, expected, "{context}: entry {number}, field {field}");
                } else if field == 0 {
                    assert_eq!(found.iter().sum::<u64>(), sent, "{context}: packets");
                }
            }
        }
    }

    fn count(&self) -> usize {
        let map = self.state();
        let mut count = 0;
        map.for_each(|_, value| count += usize::from(value.iter().any(|byte| *byte != 0))).unwrap();
        count
    }

    /// Applies the new version under a policy, while packets flow.
    fn run(&self, reuse: &str) {
        let context = format!("{}, {reuse}", self.case.name);
        self.file("old.o", reuse);
        self.site.apply();
        self.fill();
        let old = self.state();
        let traffic = self.site.lab.sender(&self.veth).background(4000);
        wait_until("some packets", DEADLINE, || self.site.packets("eth0", DROP) > 0);
        self.file("new.o", reuse);
        let diff = self.site.run("diff config.toml --json").run();
        let applied = self.site.run("apply config.toml --json").run();
        let sent = traffic.stop();
        wait_until("all packets", DEADLINE, || self.site.packets("eth0", DROP) == sent);
        let plan: Value = diff.json();
        let changes = plan["changes"].as_array().unwrap();
        let change = changes.iter().find(|change| change["address"] == "eth0.map.state");
        let text = |key: &str| change.and_then(|change| change[key].as_str()).unwrap_or_default().to_owned();
        let (reason, blocked_by) = (text("reason"), text("blocked_by"));
        let is_new = self.state().id() != old.id();
        match (reuse, self.case.migrate) {
            ("never", _) => {
                assert!(reason.contains("its content is lost"), "{context}: {reason}");
                assert!(is_new && applied.code() == Some(0), "{context}: {applied}");
            }
            (_, Same) => {
                assert!(change.is_none() && !is_new && applied.code() == Some(0), "{context}: {applied}");
                self.assert_carried(sent, &context);
            }
            ("if-compatible", _) => {
                assert!(reason.contains("its content is lost: another definition"), "{context}: {reason}");
                assert!(is_new && applied.code() == Some(0), "{context}: {applied}");
            }
            ("migrate", Carried(words)) => {
                assert!(reason.contains(words) && blocked_by.is_empty(), "{context}: {reason} {blocked_by}");
                assert!(is_new && applied.code() == Some(0), "{context}: {applied}");
                self.assert_carried(sent, &context);
            }
            ("migrate", Partly(words, entries)) => {
                assert!(reason.contains(words), "{context}: {reason} {blocked_by}");
                assert!(is_new && applied.code() == Some(0), "{context}: {applied}");
                let packets = self.state().lookup(&key(&old, 1), &mut vec![0; old.value_len()]);
                let zero = self.state().value_len() == old.value_len() && packets.unwrap();
                assert!([entries, entries - usize::from(zero)].contains(&self.count()), "{context}");
            }
            ("require", _) | ("migrate", Blocked(_)) => {
                let why = match self.case.migrate {
                    Blocked(why) if reuse == "migrate" => why,
                    _ => "reuse = \"require\", and the definition differs",
                };
                assert!(blocked_by.contains(why), "{context}: {blocked_by}");
                assert_eq!((diff.code(), applied.code()), (Some(2), Some(2)), "{context}: {applied}");
                assert!(!is_new, "{context}");
                if let Some(((at, size), _)) = self.case.fields.first() {
                    let map = self.state();
                    let mut value = vec![0; map.value_len()];
                    assert!(map.lookup(&key(&map, 1), &mut value).unwrap());
                    let packets: u64 =
                        value.chunks(map.layout().stride()).map(|slot| read(&slot[*at..at + size])).sum();
                    assert_eq!(packets, sent, "{context}: it goes on counting");
                }
            }
            (other, _) => panic!("{other}"),
        }
        self.site.expect("diff", if applied.code() == Some(0) { 0 } else { 2 });
        self.site.expect("detach", 0);
    }
}

/// The key with a number; that of the packets is 1.
fn key(map: &Map, number: u32) -> Vec<u8> {
    match map.key_len() {
        8 => [32_u32.to_ne_bytes(), number.to_ne_bytes()].concat(),
        _ => number.to_ne_bytes().to_vec(),
    }
}

fn number_of(number: u32, slot: usize, field: usize) -> u16 {
    u16::try_from(number as usize * 1000 + slot * 10 + field).unwrap()
}

fn write(bytes: &mut [u8], number: u16) {
    bytes[..2].copy_from_slice(&number.to_le_bytes());
}

fn read(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

#[test]
#[ignore = "needs root"]
fn every_change_of_a_definition_under_every_policy() {
    require_root!();
    for case in CASES {
        let site = Site::new("definitions");
        let veth = site.lab.veth("eth0", "peer0");
        for (file, defines) in [("old.o", case.old), ("new.o", case.new)] {
            let options: Vec<String> = defines.iter().map(|define| format!("-D{define}")).collect();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            compile_with(&site.lab.dir().join(file), "versions", &options);
        }
        let stand = Stand { case, site, veth };
        for reuse in ["if-compatible", "require", "migrate", "never"] {
            stand.run(reuse);
        }
    }
}
