//! One apply that does everything at once, under traffic: programs, variables, lists, maps that are migrated and replaced,
//! and who may read. Done, taken back or killed: each packet is counted once.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;

use common::strace::{Fault, changes_after, strace};
use common::{DROP, PASS, Site, compile_with, packets, report};
use xdpd::entries;
use xdpd::object::Object;
use xdpd_config::retired;
use xdpd_kernel::{Access, Map};
use xdpd_testlab::{DEADLINE, Invocation, Output, Stats, Veth, require_root, wait_until, xdp_stats, xdpd};

/// On each, flows and counts are carried over and the list changes. Its name tells what else is done: nothing more,
/// variables are carried over as well, or counts begin anew in another map.
const DEVICES: [&str; 3] = ["counted", "moved", "renewed"];
const ABORTED: u32 = 0;
const GROUP: u32 = 12345;
const FLOW: [u8; 4] = 1_u32.to_ne_bytes();

/// What the file says before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}
use Version::{One, Two};

struct Stand {
    site: Site,
    veths: Vec<Veth>,
}

impl Stand {
    fn new(name: &str) -> Self {
        let site = Site::new(name);
        let veths = DEVICES.iter().map(|device| site.lab.veth(device, &format!("p-{device}"))).collect();
        let more = "-DMORE=__u64 other=3;__u32 fresh=9;__u64 unset;";
        let wider = ["-DSTATS_ENTRIES=8", "-DFIELDS=__u32 more;__u64 packets;"];
        for (file, options) in
            [("one.o", &[][..]), ("two.o", &wider), ("more.o", &[wider[0], wider[1], more])]
        {
            compile_with(&site.lab.dir().join(file), "together", options);
        }
        let stand = Self { site, veths };
        stand.file(One, "");
        stand.xdpd("apply").expect_code(0);
        for device in DEVICES {
            let flows = stand.writable(device, "flows");
            flows.update(&FLOW, &vec![0; flows.value_len()], 0).unwrap();
        }
        stand
    }

    fn file(&self, version: Version, extra: &str) {
        let program = |name: &str| {
            let (object, function, slot, second) = match (version, name) {
                (One, _) => ("one.o", "xdp_drops", 1, 2),
                (Two, "moved") => ("more.o", "xdp_passes", 2, 3),
                (Two, _) => ("two.o", "xdp_passes", 2, 3),
            };
            let stats = if name == "renewed" { "maps.xdp_stats_map.reuse = 'never'" } else { "" };
            format!(
                "[programs.{name}]\nobject = '{object}'\nfunction = '{function}'\nglobals = {{ slot = {slot} }}\n\
                 maps.listed.entries = {{ 1 = 1, {second} = 1 }}\n{stats}\n[interfaces.{name}]\nprogram = '{name}'\n"
            )
        };
        let group = if version == Two { format!("[stats]\ngroup = {GROUP}\n") } else { String::new() };
        let programs: String = DEVICES.map(program).concat();
        self.site.config(&format!("reuse = 'migrate'\n{programs}{extra}{group}"));
    }

    /// In the namespace of the devices: there, all calls are made by one thread, and strace counts per thread.
    fn within(&self, invocation: Invocation) -> Invocation {
        invocation.current_dir(self.site.lab.dir()).netns(self.site.lab.near())
    }

    fn xdpd(&self, command: &str) -> Output {
        self.within(xdpd()).args(command.split_whitespace()).arg("config.toml").run()
    }

    fn follow(&self) -> Stats {
        let stats =
            Stats::spawn(self.within(xdp_stats()).args(["--config", "config.toml", "--interval", "40ms"]));
        DEVICES.iter().for_each(|device| drop(stats.wait_event(device, "baseline")));
        stats
    }

    fn writable(&self, device: &str, pin: &str) -> Map {
        self.site.dir(device).open_map(pin, Access::ReadWrite).unwrap()
    }

    /// What a variable holds, as numbers of this many bytes.
    fn variable(&self, version: Version, device: &str, name: &str, size: usize) -> Vec<u64> {
        let file = match (version, device) {
            (One, _) => "one.o",
            (Two, "moved") => "more.o",
            (Two, _) => "two.o",
        };
        let object = Object::inspect(std::fs::read(self.site.lab.dir().join(file)).unwrap()).unwrap();
        let variable = object.variables().into_iter().find(|v| v.name == name).unwrap();
        let map = self.site.map(device, &xdpd_config::escape::escape(&variable.section));
        let mut value = vec![0; map.value_len()];
        assert!(map.lookup(&0_u32.to_ne_bytes(), &mut value).unwrap());
        value[variable.offset..variable.offset + variable.initial.len()].chunks(size).map(number).collect()
    }

    /// The packets of a device by all that counts them but the reader.
    fn counted(&self, version: Version, device: &str) -> [u64; 3] {
        let flows = self.site.map(device, "flows");
        let mut value = vec![0; flows.value_len()];
        assert!(flows.lookup(&FLOW, &mut value).unwrap());
        let at = if version == One { 0 } else { 8 };
        let flow = value.chunks(flows.slot_len()).map(|slot| number(&slot[at..at + 8])).sum();
        let dir = self.site.dir(device);
        let names = dir.list().unwrap().into_iter().filter_map(|entry| entry.name.into_string().ok());
        // Of a map that is carried over, the retired ones hold what is in it as well.
        let is_counted = |name: &String| {
            name == "xdp_stats_map" || (device == "renewed" && retired::parse(name).is_some())
        };
        let all = names.filter(is_counted).map(|name| {
            let map = dir.open_map(&name, Access::ReadOnly).unwrap();
            assert_eq!(packets(&map, ABORTED), 0, "{device}: what stays on the list is never missing");
            packets(&map, DROP) + packets(&map, PASS)
        });
        [flow, self.variable(version, device, "counters", 8).iter().sum(), all.sum()]
    }

    /// All is as the file says, and nothing is there beside it.
    #[track_caller]
    fn assert_is(&self, version: Version, context: &str) {
        let diff = self.xdpd("diff");
        assert_eq!(diff.code(), Some(0), "{context}: {diff}");
        let (slot, second, group, mode) =
            if version == One { (1, 2, 0, 0o600) } else { (2, 3, GROUP, 0o640) };
        for device in DEVICES {
            let context = format!("{device}, {context}");
            assert_eq!(self.variable(version, device, "slot", 4), [slot], "{context}");
            let listed = entries::read(&self.site.map(device, "listed")).unwrap();
            let keys: Vec<u64> = listed.keys().map(|key| number(key)).collect();
            assert_eq!(keys, [1, second], "{context}");
            if (version, device) == (Two, "moved") {
                let added =
                    ["other", "fresh", "unset"].map(|name| self.variable(version, device, name, 4)[0]);
                assert_eq!(added, [3, 9, 0], "{context}: they begin as the object says");
            }
            for entry in std::fs::read_dir(self.site.root().join(device)).unwrap().map(Result::unwrap) {
                let (name, metadata) = (entry.file_name().into_string().unwrap(), entry.metadata().unwrap());
                if !name.starts_with("xdp-") {
                    let found = (metadata.gid(), metadata.mode() & 0o777);
                    assert_eq!(found, (group, mode), "{context}: {name}");
                }
            }
        }
        let tree = self.site.bpffs.tree();
        let is_left =
            |pin: &&String| pin.contains('%') && !["%lock", "%2E"].iter().any(|own| pin.contains(own));
        assert_eq!(tree.iter().find(is_left), None, "{context}");
    }

    /// Everything has counted what was sent.
    #[track_caller]
    fn assert_counted(&self, version: Version, stats: &Stats, sent: &BTreeMap<&str, u64>, context: &str) {
        for (device, sent) in sent {
            wait_until(&format!("{device}: all packets, {context}"), DEADLINE, || {
                let [flow, variables, _] = self.counted(version, device);
                assert!(
                    flow <= *sent && variables <= *sent,
                    "{device}, {context}: {flow}, {variables} of {sent}"
                );
                [flow, variables] == [*sent; 2]
            });
            stats.wait_packets(device, *sent);
        }
    }

    /// Nothing that the reader saw was strange.
    fn assert_seamless(stats: Stats) {
        let finished = stats.stop();
        let odd =
            |event: &serde_json::Value| ["gap", "counter_reset", "error"].iter().any(|odd| event == odd);
        assert_eq!(finished.records.iter().find(|record| odd(&record["event"])), None);
    }
}

fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

#[test]
#[ignore = "needs root"]
fn one_apply_that_changes_everything_loses_no_count() {
    require_root!();
    let stand = Stand::new("together");
    let stats = stand.follow();
    let traffic: Vec<_> =
        stand.veths.iter().map(|veth| stand.site.lab.sender(veth).background(2000)).collect();
    for n in 0..8 {
        let version = [Two, One][n % 2];
        stand.file(version, "");
        stand.xdpd("apply").expect_code(0);
        stand.assert_is(version, &format!("apply {n}"));
    }
    let sent = DEVICES.into_iter().zip(traffic.into_iter().map(xdpd_testlab::Traffic::stop)).collect();
    stand.assert_counted(One, &stats, &sent, "at the end");
    for device in DEVICES {
        assert_eq!(stand.counted(One, device), [sent[device]; 3], "{device}");
    }
    Stand::assert_seamless(stats);
}

#[test]
#[ignore = "needs root"]
fn an_apply_that_changes_everything_and_fails_is_taken_back_without_a_trace() {
    require_root!();
    let stand = Stand::new("untogether");
    let other = stand.site.lab.veth("unable", "p-unable");
    // Natively it cannot be attached, and its turn is the last.
    stand.site.lab.set_mtu(&other, 9000);
    let unable = "[interfaces.unable]\n";
    let stats = stand.follow();
    let traffic: Vec<_> =
        stand.veths.iter().map(|veth| stand.site.lab.sender(veth).background(2000)).collect();
    let running = || DEVICES.map(|device| stand.site.running(device));
    for (from, to) in [(One, Two), (Two, One), (One, Two), (Two, One)] {
        stand.file(from, "");
        stand.xdpd("apply").expect_code(0);
        let before = running();
        for (extra, options) in [(unable, ""), ("", " --confirm-timeout 200ms")] {
            stand.file(to, extra);
            let failed = stand.xdpd(&format!("apply{options}")).expect_code(3);
            assert!(failed.stderr.contains("restored"), "{failed}");
            assert_eq!(running(), before);
            stand.file(from, "");
            stand.assert_is(from, &format!("{from:?}, taken back from {to:?}{options}"));
        }
    }
    stand.file(One, "");
    stand.xdpd("apply").expect_code(0);
    let sent = DEVICES.into_iter().zip(traffic.into_iter().map(xdpd_testlab::Traffic::stop)).collect();
    stand.assert_counted(One, &stats, &sent, "at the end");
    for device in DEVICES {
        assert_eq!(stand.counted(One, device), [sent[device]; 3], "{device}");
    }
    Stand::assert_seamless(stats);
}

/// Killed at every exchange of a program or of pins, and at a sample of the other calls. Whichever file the next apply has,
/// it is made so.
#[test]
#[ignore = "needs root"]
fn a_kill_in_an_apply_that_changes_everything_loses_no_count() {
    require_root!();
    const STEP: usize = 12;
    let stand = Stand::new("killtogether");
    let stats = stand.follow();
    let mut sent: BTreeMap<&str, u64> = DEVICES.map(|device| (device, 0)).into();
    let send = |sent: &mut BTreeMap<&str, u64>| {
        for (veth, device) in stand.veths.iter().zip(DEVICES) {
            *sent.get_mut(device).unwrap() += stand.site.lab.sender(veth).send(3);
        }
    };
    let apply = |faults: &[Fault<'_>]| {
        stand.file(Two, "");
        let log = stand.site.lab.dir().join("strace.log");
        let output =
            stand.within(strace(&log, faults)).arg(xdpd().path()).args(["apply", "config.toml"]).run();
        (output, std::fs::read_to_string(log).unwrap())
    };
    let back = |version: Version, context: &str| {
        stand.file(version, "");
        stand.xdpd("apply").expect_code(0);
        stand.assert_is(version, context);
    };
    let (output, log) = apply(&[]);
    output.expect_code(0);
    let is_begin = |line: &str| line.starts_with("mkdirat(") && line.contains("%next-");
    let calls: Vec<_> = changes_after(&log, is_begin).collect();
    let of_commit = ["BPF_LINK_UPDATE", "RENAME_EXCHANGE"];
    let sample = calls.iter().enumerate().filter(|(n, (_, _, line))| {
        n % STEP == std::process::id() as usize % STEP || of_commit.iter().any(|call| line.contains(call))
    });
    let mut points = 0;
    for (at, (call, n, line)) in sample {
        let context = format!("killed at call {n} of {call}: {line}");
        back(One, &context);
        send(&mut sent);
        let (killed, _) = apply(&[(call, "signal=KILL", *n)]);
        assert_eq!(killed.status.signal(), Some(9), "{context}: {killed}");
        // Whichever program runs counts.
        send(&mut sent);
        let version = [One, Two][at % 2];
        back(version, &context);
        stand.assert_counted(version, &stats, &sent, &context);
        points += 1;
    }
    assert!(points >= 6, "three programs and three directories: {log}");
    report(format_args!("{points} of {} points", calls.len()));
    Stand::assert_seamless(stats);
}
