//! No count is lost when an apply is taken back, or killed while it is: what its programs have counted stays readable.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use common::strace::{Fault, changes_after, strace, traced};
use common::{DROP, PASS, Site, packets, report};
use rustix::process::{Signal, kill_process};
use xdpd_config::retired;
use xdpd_kernel::Access;
use xdpd_testlab::{DEADLINE, Invocation, Veth, require_root, wait_until, xdpd};

/// Each named after how the new program comes to run: in the place of the old one, after a change of mode, where the link
/// had been detached.
const DEVICES: [&str; 3] = ["detached", "switched", "updated"];

struct Stand {
    site: Site,
    veths: Vec<Veth>,
}

impl Stand {
    fn new(name: &str) -> Self {
        let site = Site::new(name);
        let veths = site.lab.veths_called(&DEVICES);
        Self { site, veths }
    }

    /// The state before: three packets counted by each interface.
    fn reset(&self) {
        self.file("xdp_drop_func", "native");
        self.xdpd(xdpd()).args(["detach", "config.toml"]).run().expect_code(0);
        self.xdpd(xdpd()).args(["apply", "config.toml"]).run().expect_code(0);
        for veth in &self.veths {
            self.site.send(veth, &veth.near, DROP, 3);
        }
        self.site.link("detached").detach().unwrap();
    }

    fn file(&self, function: &str, mode: &str) {
        let interface =
            |device: &str, mode: &str| format!("[interfaces.{device}]\nprogram = 'p'\nmode = '{mode}'\n");
        self.site.config(&format!(
            "reuse = 'never'\n[programs.p]\nobject = 'builtin'\nfunction = '{function}'\n{}{}{}",
            interface("detached", "native"),
            interface("switched", mode),
            interface("updated", "native"),
        ));
    }

    /// In the namespace of the devices: there, all calls are made by one thread, and strace counts per thread.
    fn xdpd(&self, invocation: Invocation) -> Invocation {
        invocation.current_dir(self.site.lab.dir()).netns(self.site.lab.near())
    }

    /// Applies on trial, has each new program count five packets, and stops the trial. Gives how that ended, and the
    /// calls.
    fn try_and_stop(&self, faults: &[Fault<'_>]) -> (ExitStatus, String) {
        self.file("xdp_pass_func", "generic");
        let log = self.site.lab.dir().join("strace.log");
        let apply =
            strace(&log, faults).arg(xdpd().path()).args(["apply", "config.toml", "--confirm-timeout", "1h"]);
        let mut strace = self.xdpd(apply).spawn();
        let marker = self.site.root().join("%lock/unconfirmed");
        wait_until("the apply to wait", DEADLINE, || {
            let ended = strace.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?} with {faults:?}: {}", std::fs::read_to_string(&log).unwrap());
            marker.is_symlink()
        });
        for veth in &self.veths {
            self.site.send(veth, &veth.near, PASS, 5);
        }
        kill_process(traced(&strace), Signal::TERM).unwrap();
        (strace.wait().unwrap(), std::fs::read_to_string(log).unwrap())
    }

    /// The packets in the current map of an interface and in its retired ones, which passed and which were dropped.
    fn counts(&self, label: &str) -> (u64, u64) {
        let dir = self.site.dir(label);
        let names = dir.list().unwrap().into_iter().filter_map(|entry| entry.name.into_string().ok());
        let maps = names.filter(|name| name == "xdp_stats_map" || retired::parse(name).is_some());
        let counts = maps.map(|name| {
            let map = dir.open_map(&name, Access::ReadOnly).unwrap();
            (packets(&map, PASS), packets(&map, DROP))
        });
        counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
    }

    #[track_caller]
    fn assert_all_counted(&self, context: &str) {
        for label in DEVICES {
            assert_eq!(self.counts(label), (5, 3), "{label}, {context}: {:?}", self.site.bpffs.tree());
        }
    }
}

#[test]
#[ignore = "needs root"]
fn what_programs_counted_that_were_rolled_back_stays_as_retired_maps() {
    require_root!();
    let stand = Stand::new("rolledback");
    stand.reset();
    let (status, log) = stand.try_and_stop(&[]);
    assert_eq!(status.code(), Some(3), "{log}");
    stand.assert_all_counted("rolled back");
    for label in DEVICES {
        assert_eq!(stand.site.packets(label, DROP), 3, "the old map is the current one again");
    }
}

#[test]
#[ignore = "needs root"]
fn a_kill_while_programs_are_rolled_back_loses_no_count() {
    require_root!();
    let stand = Stand::new("killedback");
    stand.reset();
    let (_, log) = stand.try_and_stop(&[]);
    let mut points = 0;
    let is_begin = |line: &str| line.starts_with("symlinkat(") && line.contains("\"unconfirmed\"");
    for (call, n, line) in changes_after(&log, is_begin) {
        // Of the many that clear up, every third; each process begins elsewhere.
        if call == "unlinkat" && n % 3 != std::process::id() as usize % 3 {
            continue;
        }
        let context = format!("killed at call {n} of {call}: {line}");
        stand.reset();
        let (status, _) = stand.try_and_stop(&[(call, "signal=KILL", n)]);
        assert_eq!(status.signal(), Some(9), "{context}");
        points += 1;
        stand.xdpd(xdpd()).args(["apply", "config.toml"]).run().expect_code(0);
        stand.assert_all_counted(&context);
    }
    report(format_args!("{points} points"));
    assert!(points > 10, "there is something to undo: {log}");
}
