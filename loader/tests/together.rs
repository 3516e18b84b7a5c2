//! One apply that does everything at once, under traffic: programs, variables, lists, maps that are migrated and
//! replaced, and who may read. Done, taken back or killed: each packet is counted once.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;

use common::strace::{Fault, Tries, changes_after, strace, tries};
use common::{DROP, PASS, Site, compile_with, packets, report};
use xdpd::entries;
use xdpd::object::Object;
use xdpd_config::retired;
use xdpd_kernel::Access;
use xdpd_testlab::{Invocation, Output, Stats, Veth, require_root, xdp_stats, xdpd};

/// On each, flows and counts are carried over and the list changes. Its name tells what else is done: nothing more,
/// variables are carried over as well, or counts begin anew in another map.
const DEVICES: [&str; 3] = ["counted", "moved", "renewed"];
const ABORTED: u32 = 0;
const GROUP: u32 = 12345;
const FLOW: [u8; 4] = 1_u32.to_ne_bytes();

/// Packets by device.
type Sent = BTreeMap<&'static str, u64>;

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
        let veths = site.lab.veths_called(&DEVICES);
        let more = "-DMORE=__u64 other=3;__u32 fresh=9;__u64 unset;";
        let wider = ["-DSTATS_ENTRIES=8", "-DFIELDS=__u32 more;__u64 packets;"];
        for (file, options) in
            [("one.o", &[][..]), ("two.o", &wider), ("more.o", &[wider[0], wider[1], more])]
        {
            compile_with(&site.lab.dir().join(file), "together", options);
        }
        let stand = Self { site, veths };
        stand.begin();
        stand
    }

    /// As the first file says, with nothing counted.
    fn begin(&self) {
        self.file(One, "");
        self.xdpd("apply").expect_code(0);
        for device in DEVICES {
            let flows = self.site.dir(device).open_map("flows", Access::ReadWrite).unwrap();
            flows.update(&FLOW, &vec![0; flows.value_len()], 0).unwrap();
        }
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
        for device in DEVICES {
            stats.wait_event(device, "baseline");
        }
        stats
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
        let flow = value.chunks(flows.layout().stride()).map(|slot| number(&slot[at..at + 8])).sum();
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

    /// All maps have counted what was sent since the beginning, and the reader what was sent since it came.
    #[track_caller]
    fn assert_counted(&self, version: Version, stats: &Stats, since: &Sent, sent: &Sent, context: &str) {
        for device in DEVICES {
            stats.wait_packets(device, sent[device]);
            let counted = self.counted(version, device);
            assert_eq!(counted, [since[device]; 3], "{device}: flows, variables, counts; {context}");
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
    stand.assert_counted(One, &stats, &sent, &sent, "at the end");
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
    stand.assert_counted(One, &stats, &sent, &sent, "at the end");
    Stand::assert_seamless(stats);
}

/// Killed at every replacement of a program and every exchange of pins, and at a sample of the other calls, or with
/// `XDPD_FAULTS=all` at all of them. Whichever file the next apply has, it is made so.
#[test]
#[ignore = "needs root"]
fn a_kill_in_an_apply_that_changes_everything_loses_no_count() {
    const OF_COMMIT: [&str; 2] = ["BPF_LINK_UPDATE", "RENAME_EXCHANGE"];
    require_root!();
    let step = if tries() == Tries::Some { 12 } else { 1 };
    let stand = Stand::new("killtogether");
    let stats = stand.follow();
    let three_each = || {
        for veth in &stand.veths {
            assert_eq!(stand.site.lab.sender(veth).send(3), 3);
        }
    };
    let apply = |faults: &[Fault<'_>]| {
        stand.file(Two, "");
        let log = stand.site.lab.dir().join("strace.log");
        let strace = stand.within(strace(&log, faults)).arg(xdpd().path());
        let output = strace.args(["apply", "config.toml"]).run();
        (output, std::fs::read_to_string(log).unwrap())
    };
    three_each();
    let (output, log) = apply(&[]);
    output.expect_code(0);
    let mut sent: Sent = DEVICES.map(|device| (device, 3)).into();
    stand.assert_counted(Two, &stats, &sent, &sent, "not killed");
    let is_begin = |line: &str| line.starts_with("mkdirat(") && line.contains("%next-");
    let calls: Vec<_> = changes_after(&log, is_begin).collect();
    let mut points = 0;
    for (at, (call, n, line)) in calls.iter().enumerate() {
        let of_commit = OF_COMMIT.into_iter().find(|call| line.contains(call));
        if of_commit.is_none() && at % step != std::process::id() as usize % step {
            continue;
        }
        let context = format!("killed at call {n} of {call}: {line}");
        let mark = stats.mark();
        stand.xdpd("detach").expect_code(0);
        // Else a slow reader sees other maps of an unknown past, and tells that something may be missing.
        for device in DEVICES {
            let _ = stats.wait_after(mark, &format!("{device} without pins"), |record| {
                record["event"] == "waiting" && record["interface"] == device
            });
        }
        stand.begin();
        three_each();
        let (killed, log) = apply(&[(call, "signal=KILL", *n)]);
        assert_eq!(killed.status.signal(), Some(9), "{context}: {killed}");
        assert!(of_commit.is_none_or(|call| log.lines().any(|l| l.contains(call))), "{context}: {log}");
        // Whichever program runs counts.
        three_each();
        // To go back is the harder way where variables are written already and the program is not yet replaced.
        let version = if of_commit == Some(OF_COMMIT[0]) { One } else { [One, Two][at % 2] };
        stand.file(version, "");
        stand.xdpd("apply").expect_code(0);
        stand.assert_is(version, &context);
        for sent in sent.values_mut() {
            *sent += 6;
        }
        let since = DEVICES.map(|device| (device, 6)).into();
        stand.assert_counted(version, &stats, &since, &sent, &context);
        points += 1;
    }
    assert!(points >= 6, "three programs and three directories: {log}");
    report(format_args!("{points} of {} points", calls.len()));
    Stand::assert_seamless(stats);
}
