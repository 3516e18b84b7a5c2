//! All or nothing for maps that hold maps or programs: an apply that replaces them fails, or is killed, at its n-th call.
//!
//! Of all calls that change something one in a few is tried, or with `XDPD_FAULTS=all` each one.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::os::unix::process::ExitStatusExt;

use common::strace::{Fault, Tries, changes_after, strace, tries};
use common::{DROP, Site, compile_with, packets, report};
use xdpd_kernel::map_types::{
    BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS, BPF_MAP_TYPE_PROG_ARRAY,
};
use xdpd_kernel::{Access, Map, MapId};
use xdpd_testlab::{DEADLINE, Invocation, Output, Veth, require_root, wait_until, xdpd};

/// On the first, a program jumps to others; on the second, it counts in maps that it finds in others.
const DEVICES: [&str; 2] = ["jumps", "nested"];
const ABORTED: u32 = 0;

/// What is pinned and runs: names and ids, and what maps hold.
type State = (Vec<String>, Vec<Option<u32>>, Vec<(String, MapId, Vec<[u8; 4]>)>);

struct Stand {
    site: Site,
    veths: Vec<Veth>,
    /// Entries of the maps that all programs of this stand refer to: no other map has as many.
    entries: u32,
}

impl Stand {
    fn new(name: &str) -> Self {
        let site = Site::new(name);
        let veths = DEVICES.iter().map(|device| site.lab.veth(device, &format!("p-{device}"))).collect();
        let entries = 10_000 + std::process::id() % 10_000 + u32::try_from(name.len()).unwrap();
        let entries_option = format!("-DSTATS_ENTRIES={entries}");
        for device in DEVICES {
            for (version, option) in [(1, "-DSIZE=4"), (2, "-DSIZE=8")] {
                let object = site.lab.dir().join(format!("{device}{version}.o"));
                compile_with(&object, device, &[&entries_option, option]);
                // Another digest also where the code is the same.
                let bytes = [&*std::fs::read(&object).unwrap(), &[version]].concat();
                std::fs::write(object, bytes).unwrap();
            }
        }
        let stand = Self { site, veths, entries };
        stand.apply(1).expect_code(0);
        stand
    }

    fn file(&self, version: u8) {
        let entry = |device: &str| {
            format!(
                "[programs.{device}]\nobject = '{device}{version}.o'\nfunction = 'xdp_{device}'\n\
                 [interfaces.{device}]\nprogram = '{device}'\n"
            )
        };
        self.site.config(&format!("reuse = 'migrate'\n{}", DEVICES.map(entry).concat()));
    }

    /// In the namespace of the devices: there, all calls are made by one thread, and strace counts per thread.
    fn within(&self, invocation: Invocation) -> Invocation {
        invocation.current_dir(self.site.lab.dir()).netns(self.site.lab.near())
    }

    fn apply(&self, version: u8) -> Output {
        self.file(version);
        self.within(xdpd()).args(["apply", "config.toml"]).run()
    }

    fn apply_with(&self, version: u8, faults: &[Fault<'_>]) -> (Output, String) {
        self.file(version);
        let log = self.site.lab.dir().join("strace.log");
        let output =
            self.within(strace(&log, faults)).arg(xdpd().path()).args(["apply", "config.toml"]).run();
        (output, std::fs::read_to_string(log).unwrap())
    }

    fn state(&self) -> State {
        let running = DEVICES.iter().map(|device| self.site.running(device)).collect();
        let mut maps = Vec::new();
        for device in DEVICES {
            let dir = self.site.dir(device);
            let names = dir.list().unwrap().into_iter().filter_map(|entry| entry.name.into_string().ok());
            for name in names.filter(|name| !name.starts_with("xdp-")) {
                let map = dir.open_map(&name, Access::ReadOnly).unwrap();
                maps.push((format!("{device}/{name}"), map.id(), held(&map)));
            }
        }
        (self.site.bpffs.tree(), running, maps)
    }

    /// Whichever programs run, each jump and each lookup finds something.
    #[track_caller]
    fn assert_sound(&self, context: &str) {
        for (device, veth) in DEVICES.into_iter().zip(&self.veths) {
            let stats = || self.site.map(device, "xdp_stats_map");
            let before = packets(&stats(), DROP);
            assert_eq!(self.site.lab.sender(veth).send(3), 3);
            wait_until("all frames to be counted", DEADLINE, || {
                let aborted = packets(&stats(), ABORTED);
                assert_eq!(aborted, 0, "{device}, {context}: a map has not what it should");
                packets(&stats(), DROP) == before + 3
            });
        }
    }

    /// All is as the file says, and nothing is there beside it.
    #[track_caller]
    fn assert_converged(&self, context: &str) {
        let diff = self.within(xdpd()).args(["diff", "config.toml"]).run();
        assert_eq!(diff.code(), Some(0), "{context}: {diff}");
        self.assert_sound(context);
        for (device, name, count) in
            [("jumps", "next", 2), ("nested", "by_number", 2), ("nested", "by_key", 2)]
        {
            let held = held(&self.site.map(device, name));
            assert_eq!(held.len(), count, "{context}: {name}");
        }
        let tree = self.site.bpffs.tree();
        assert_eq!(tree.iter().find(|pin| pin.contains('%') && !pin.contains("%lock")), None, "{context}");
    }

    /// Each program of this stand, also one that is only in an array, refers to such a map.
    fn assert_no_residue(&self) {
        self.within(xdpd()).args(["detach", "config.toml"]).run().expect_code(0);
        assert_eq!(self.site.bpffs.tree(), Vec::<String>::new());
        let is_left = || {
            let maps = Map::ids().filter_map(|id| Map::open_by_id(id.ok()?).ok());
            maps.map(|map| map.def().max_entries).any(|entries| entries == self.entries)
        };
        wait_until("the last map to be gone", DEADLINE, || !is_left());
    }

    /// The calls of an apply of version 2 that change something, from the first stage on.
    fn calls(&self) -> Vec<(&'static str, usize)> {
        let (output, log) = self.apply_with(2, &[]);
        output.expect_code(0);
        let is_begin = |line: &str| line.starts_with("mkdirat(") && line.contains("%next-");
        let calls: Vec<_> = changes_after(&log, is_begin).map(|(call, n, _)| (call, n)).collect();
        let step = if tries() == Tries::Some { 4 } else { 1 };
        report(format_args!("one in {step} of {} calls", calls.len()));
        assert!(calls.len() > 40, "{log}");
        calls.into_iter().skip(std::process::id() as usize % step).step_by(step).collect()
    }
}

/// What a map of maps or a program array holds: ids. Of other maps nothing.
fn held(map: &Map) -> Vec<[u8; 4]> {
    const TYPES: [u32; 3] = [BPF_MAP_TYPE_PROG_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS];
    if !TYPES.contains(&map.def().map_type) {
        return Vec::new();
    }
    let mut id = [0; 4];
    map.keys().filter_map(|key| map.lookup(&key.unwrap(), &mut id).unwrap().then_some(id)).collect()
}

#[test]
#[ignore = "needs root"]
fn a_call_that_fails_leaves_what_maps_held() {
    require_root!();
    let stand = Stand::new("slotfails");
    let calls = stand.calls();
    stand.apply(1).expect_code(0);
    let mut codes = Vec::new();
    let mut before = stand.state();
    for (call, n) in calls {
        let context = format!("call {n} of {call}");
        let (output, _) = stand.apply_with(2, &[(call, "error=EIO", n)]);
        codes.push(output.code().unwrap());
        match output.code() {
            Some(2 | 3) => assert_eq!(stand.state(), before, "{context}: {output}"),
            // The new state was verified, and what is left is told.
            Some(4) => drop(stand.apply(2).expect_code(0)),
            code => assert_eq!(code, Some(0), "{context}: {output}"),
        }
        if matches!(output.code(), Some(0 | 4)) {
            stand.assert_converged(&context);
            stand.apply(1).expect_code(0);
            before = stand.state();
        }
        stand.assert_sound(&context);
    }
    report(format_args!("exit codes {codes:?}"));
    assert!(codes.iter().any(|code| *code != 0));
    stand.assert_no_residue();
}

#[test]
#[ignore = "needs root"]
fn a_kill_leaves_no_map_without_what_it_should_hold() {
    require_root!();
    let stand = Stand::new("slotkills");
    let mut killed = 0;
    let mut to = 1;
    for (at, (call, n)) in stand.calls().into_iter().enumerate() {
        let context = format!("killed at call {n} of {call}, on the way to version {to}");
        let (output, _) = stand.apply_with(to, &[(call, "signal=KILL", n)]);
        killed += usize::from(output.status.signal() == Some(9));
        stand.assert_sound(&context);
        // Forth or back.
        let version = if at % 2 == 0 { to } else { 3 - to };
        stand.apply(version).expect_code(0);
        stand.assert_converged(&context);
        to = 3 - version;
    }
    assert!(killed > 0);
    report(format_args!("killed {killed} times"));
    stand.assert_no_residue();
}
