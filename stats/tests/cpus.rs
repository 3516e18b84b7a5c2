//! The values that a map has for each CPU are read as the kernel copies them, whatever sysfs says of the CPUs.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use common::{PASS, SIZE, Site, set, stats_map};
use xdpd_testlab::{Invocation, Stats, require_root, xdp_stats};

/// Fewer than there are, as many or more, far more, others, and no list at all.
const TEXTS: [&str; 6] = ["0", "0-7", "0-63", "0-4095", "7", "none"];

/// Follows a map whose last CPU counts, and has all of it.
fn counts_are_right(site: &Site, invocation: impl Fn() -> Invocation) {
    for text in TEXTS {
        let map = stats_map();
        let last = map.layout().count() - 1;
        site.pin("edge", &map);
        let root = site.root();
        root.open_dir("edge").unwrap().chmod("xdp_stats_map", 0o644).unwrap();
        let stats = Stats::spawn(invocation().args(["--interval", "25ms"]).cpus_by_sysfs(text));
        stats.wait_event("edge", "baseline");
        for round in 1..=20 {
            set(&map, PASS, 0, round, round * SIZE);
            set(&map, PASS, last, round * 1000, round * 1000 * SIZE);
            let expected = if last == 0 { round * 1000 } else { round * 1001 };
            stats.wait_packets("edge", expected);
        }
        let finished = stats.stop();
        let odd = finished.records.iter().find(|r| r["event"] != "sample" && r["event"] != "baseline");
        assert_eq!(odd, None, "{text}");
    }
}

#[test]
#[ignore = "needs root"]
fn counts_are_right_whatever_sysfs_says_of_the_cpus() {
    require_root!();
    let site = Site::new("[interfaces.edge]\n");
    counts_are_right(&site, || site.stats());
}

/// Without any capability no map can be made to measure with: the pinned one has to do.
#[test]
#[ignore = "needs root"]
fn counts_are_right_whatever_sysfs_says_of_the_cpus_without_any_capability() {
    require_root!();
    let site = Site::new("[interfaces.edge]\n");
    let program = site.dir.path().join("xdp-stats");
    Invocation::of("install")
        .args(["-m", "755"])
        .args([xdp_stats().path(), program.clone()])
        .run()
        .expect_code(0);
    std::fs::set_permissions(site.config_path(), Permissions::from_mode(0o644)).unwrap();
    counts_are_right(&site, || {
        Invocation::of("setpriv")
            .args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "--no-new-privs"])
            .args(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"])
            .arg(&program)
            .arg("--config")
            .arg(site.config_path())
    });
}
