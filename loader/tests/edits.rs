//! The promise of the whole, over a long time: hundreds of edits of a file under traffic, and every packet is met by a
//! program and counted once.
//!
//! The edits are random; `XDPD_SEED` repeats those of a run, which prints its seed.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use common::{Site, Stop, object_with, report, set_word};
use xdpd_kernel::map_types::BPF_MAP_TYPE_PERCPU_ARRAY;
use xdpd_kernel::{Access, Map, MapId, netlink};
use xdpd_testlab::{DEADLINE, Stats, require_root, wait_until, xdp_stats};

const EDITS: usize = 200;
const INTERFACES: usize = 8;
/// Frames per second and interface: some for each edit, few enough for a busy machine to keep the pace.
const RATE: u32 = 1500;

const FUNCTIONS: [&str; 4] = ["xdp_pass_func", "xdp_drop_func", "xdp_tx_func", "xdp_abort_func"];
const POLICIES: [&str; 3] = ["if-compatible", "require", "never"];

/// `SplitMix64` of Steele, Lea and Flood.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("XDPD_SEED").map_or_else(
            |_| SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into(),
            |seed| seed.parse().expect("XDPD_SEED is a number"),
        );
        report(format_args!("XDPD_SEED={seed}"));
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % bound as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A policy, or none.
    fn policy(&mut self) -> Option<&'static str> {
        let choice = self.below(POLICIES.len() + 1);
        POLICIES.get(choice).copied()
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Interface {
    function: &'static str,
    reuse: Option<&'static str>,
    map_reuse: Option<&'static str>,
}

#[derive(Debug, Clone, Default)]
struct File {
    reuse: Option<&'static str>,
    interfaces: [Interface; INTERFACES],
}

impl File {
    /// Half of the interfaces run natively, and half in generic mode.
    fn text(&self, object: &str) -> String {
        let reuse = |policy: Option<&str>| policy.map_or_else(String::new, |p| format!("reuse = '{p}'\n"));
        let mut text = reuse(self.reuse);
        for (n, Interface { function, reuse: own, map_reuse }) in self.interfaces.iter().enumerate() {
            let mode = ["native", "generic"][n % 2];
            let _ = write!(
                text,
                "[programs.p{n}]\nobject = '{object}'\nfunction = '{function}'\n\
                 [programs.p{n}.maps.xdp_stats_map]\n{}\
                 [interfaces.v{n}]\nnetns = '$NETNS'\nprogram = 'p{n}'\nmode = '{mode}'\n{}",
                reuse(*map_reuse),
                reuse(*own),
            );
        }
        text
    }

    /// What the file says about the map of an interface: the policy that is nearest to it.
    fn policy(&self, n: usize) -> &'static str {
        let Interface { reuse, map_reuse, .. } = self.interfaces[n];
        map_reuse.or(reuse).or(self.reuse).unwrap_or("if-compatible")
    }

    /// Edits one to four things; tells the interfaces whose function is another.
    fn edit(&mut self, random: &mut Random) -> Vec<usize> {
        let before = self.interfaces;
        for _ in 0..=random.below(4) {
            let interface = random.below(INTERFACES);
            match random.below(6) {
                0 => self.reuse = random.policy(),
                1 => self.interfaces[interface].reuse = random.policy(),
                2 => self.interfaces[interface].map_reuse = random.policy(),
                _ => self.interfaces[interface].function = random.pick(&FUNCTIONS),
            }
        }
        (0..INTERFACES).filter(|n| self.interfaces[*n].function != before[*n].function).collect()
    }
}

/// The builtin object with maps of a type and size that nobody else uses, by which they are found in the kernel.
fn object_of_our_own(site: &Site) -> (String, impl Fn() -> usize + use<>) {
    let entries = 2000 + std::process::id() % 1000;
    let path = site.lab.dir().join("own.o");
    object_with(&path, "maps/xdp_stats_map", |map| set_word(map, 3, entries));
    let maps = move || {
        let maps = Map::ids().filter_map(|id| Map::open_by_id(id.ok()?).ok());
        maps.filter(|map| (map.def().map_type, map.def().max_entries) == (BPF_MAP_TYPE_PERCPU_ARRAY, entries))
            .count()
    };
    (path.display().to_string(), maps)
}

fn map_ids(site: &Site) -> Vec<MapId> {
    (0..INTERFACES).map(|n| site.map(&format!("v{n}"), "xdp_stats_map").id()).collect()
}

#[test]
#[ignore = "needs root"]
fn hundreds_of_edits_under_traffic_lose_no_packet_and_no_count() {
    require_root!();
    let mut random = Random::new();
    let site = Site::new("edits");
    let veths = site.lab.veths("v", INTERFACES);
    let (object, maps_in_kernel) = object_of_our_own(&site);
    let mut file = File::default();
    file.interfaces.iter_mut().for_each(|interface| interface.function = random.pick(&FUNCTIONS));
    site.config(&file.text(&object));
    site.apply();
    let stats = Stats::spawn(
        xdp_stats().args(["--config", "config.toml", "--interval", "50ms"]).current_dir(site.lab.dir()),
    );
    for veth in &veths {
        stats.wait_event(&veth.near, "baseline");
    }

    let stop = Stop::default();
    let stopped = stop.handle();
    let looks = AtomicU64::new(0);
    // Every device is looked at all the time, and each look finds a program on each.
    let look = || {
        while !stopped.get() {
            let devices = netlink::devices().unwrap();
            let ours = devices.iter().filter(|device| device.name.starts_with('v'));
            assert_eq!(ours.filter(|device| device.xdp.len() == 1).count(), INTERFACES, "{devices:?}");
            looks.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let (sent, changes) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| site.lab.near().run(look));
        let traffic: Vec<_> = veths.iter().map(|veth| site.lab.sender(veth).background(RATE)).collect();
        let mut changes = BTreeMap::<&str, usize>::new();
        for n in 1..=EDITS {
            let edited = file.edit(&mut random);
            let before = map_ids(&site);
            site.config(&file.text(&object));
            let outcome = site.run("apply config.toml --json").run().expect_code(0).json();
            let expected = if edited.is_empty() { "unchanged" } else { "applied" };
            assert_eq!(outcome["outcome"], expected, "edit {n} of {edited:?}: {outcome}");
            for (interface, (before, after)) in before.into_iter().zip(map_ids(&site)).enumerate() {
                let is_fresh = edited.contains(&interface) && file.policy(interface) == "never";
                assert_eq!(before != after, is_fresh, "v{interface} after edit {n} of {edited:?}: {file:?}");
                *changes.entry(["kept", "fresh"][usize::from(is_fresh)]).or_default() +=
                    usize::from(edited.contains(&interface));
            }
        }
        let sent: Vec<u64> = traffic.into_iter().map(xdpd_testlab::Traffic::stop).collect();
        drop(stop);
        watcher.join().unwrap();
        (sent, changes)
    });
    report(format_args!(
        "{EDITS} edits, programs replaced with their map {changes:?}, {sent:?} frames, {looks:?} looks"
    ));

    for (veth, sent) in veths.iter().zip(&sent) {
        stats.wait_packets(&veth.near, *sent);
        // What no program met went up the stack, as what passed did; the stack drops what it has no protocol for.
        let passed = stats.sum(&veth.near)["pass"].packets;
        assert_eq!(site.lab.near().counter(&veth.near, "rx_dropped"), passed, "{}", veth.near);
    }
    let finished = stats.stop();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    for event in ["gap", "counter_reset", "error", "waiting", "interface_gone"] {
        let found = finished.records.iter().find(|record| record["event"] == event);
        assert_eq!(found, None);
    }
    assert!(looks.into_inner() > EDITS as u64 && changes.len() == 2 && sent.iter().all(|sent| *sent > 1000));

    // Of all the maps that there were, only those are left that are pinned.
    let pinned = || {
        let dirs = veths.iter().map(|veth| site.dir(&veth.near));
        let names = dirs.flat_map(|dir| {
            let entries = dir.list().unwrap().into_iter().map(|entry| entry.name);
            entries
                .filter_map(move |name| Some(dir.open_map(name, Access::ReadOnly).ok()?.id()))
                .collect::<Vec<_>>()
        });
        names.collect::<BTreeSet<_>>().len()
    };
    wait_until("replaced maps to be gone", DEADLINE, || maps_in_kernel() == pinned());
    site.expect("detach", 0);
    assert_eq!(site.bpffs.tree(), Vec::<String>::new());
    // Each of our programs and links would hold a map.
    wait_until("the last map to be gone", DEADLINE, || maps_in_kernel() == 0);
}
