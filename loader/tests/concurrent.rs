//! Many at once: applies wait for each other, and readers never find a pin missing or half of something.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Site, Stop, report};
use xdpd_config::OWNER_PIN;
use xdpd_config::record::Record;
use xdpd_kernel::{Access, Dir, Look};
use xdpd_testlab::{Stats, Traffic, Veth, require_root, xdp_stats};

const ROUNDS: usize = 12;
const AT_ONCE: usize = 8;
const MAP: &str = "xdp_stats_map";

/// Two files that share a pin root, each with two interfaces: one's maps are new at each change, the other's stay.
const FILES: [(&str, &str, [&str; 2]); 2] =
    [("fresh.toml", "never", ["v0", "v1"]), ("kept.toml", "if-compatible", ["v2", "v3"])];

fn write(site: &Site, round: usize) {
    for (file, reuse, labels) in FILES {
        let function = ["xdp_pass_func", "xdp_drop_func"][round % 2];
        let interfaces =
            labels.map(|label| format!("[interfaces.{label}]\nnetns = '$NETNS'\nprogram = 'p'\n"));
        site.config_as(
            file,
            &format!(
                "reuse = '{reuse}'\n[programs.p]\nobject = 'builtin'\nfunction = '{function}'\n{}",
                interfaces.concat()
            ),
        );
    }
}

/// What a reader does: opens the directory of a label, and in it the map and the record. Where the directory was replaced
/// meanwhile, it may be empty already, and it is the new one that counts.
fn read(root: &Path, label: &str) {
    let path = root.join(label);
    // In one step, that of the kernel along the path.
    assert!(path.join(MAP).symlink_metadata().is_ok(), "{label}: the map's pin is missing");
    loop {
        let dir = Dir::open(&path).unwrap_or_else(|e| panic!("{label}: {e}"));
        let map = dir.find_map(MAP, Access::ReadOnly).unwrap_or_else(|e| panic!("{label}: {e}"));
        let record = dir.find_symlink(OWNER_PIN).unwrap_or_else(|e| panic!("{label}: {e}"));
        match (map, record) {
            (Look::Found(map), Look::Found(record)) => {
                let record = Record::parse(record.to_str().unwrap()).unwrap();
                assert_eq!(record.maps[MAP], map.id().0, "{label}: the record of another directory");
                let mut value = vec![0; map.value_len()];
                assert!(map.lookup(&0_u32.to_ne_bytes(), &mut value).unwrap());
                return;
            }
            (map @ Look::Gone, record) | (map, record @ Look::Gone) => {
                let now = Dir::open(&path).unwrap().stat_self().unwrap().ino;
                let context = format!("{label}: half of a directory: {map:?}, {record:?}");
                assert_ne!(dir.stat_self().unwrap().ino, now, "{context}");
            }
            (map, record) => panic!("{label}: {map:?}, {record:?}"),
        }
    }
}

#[test]
#[ignore = "needs root"]
fn eight_applies_at_once_wait_for_each_other_and_no_reader_finds_a_pin_missing() {
    require_root!();
    let site = Site::new("crowd");
    let veths: Vec<Veth> = site.lab.veths("v", 4);
    write(&site, 0);
    let apply = |file: &str, more: &str| site.run(&format!("apply {file} {more}"));
    let readers = FILES.map(|(file, _, labels)| {
        apply(file, "").run().expect_code(0);
        let stats = Stats::spawn(
            xdp_stats().args(["--config", file, "--interval", "40ms"]).current_dir(site.lab.dir()),
        );
        for label in labels {
            stats.wait_event(label, "baseline");
        }
        stats
    });
    let stop = Stop::default();
    let stopped = stop.handle();
    let opens = AtomicU64::new(0);
    let root = site.root();
    let read_all = || {
        while !stopped.get() {
            for (_, _, labels) in FILES {
                for label in labels {
                    read(&root, label);
                }
                opens.fetch_add(2, Ordering::Relaxed);
            }
        }
    };
    // Those who look without the lock find directories exchanged and removed under their hands, and take none for less.
    let look_at_all = || {
        while !stopped.get() {
            for (file, ..) in FILES {
                let status = site.run(&format!("status {file}")).run().expect_code(0);
                assert!(!status.stdout.contains("without our record"), "{status}");
                let diff = site.run(&format!("diff {file}")).run();
                assert!(!diff.stderr.contains("ENOENT"), "{diff}");
            }
        }
    };
    let (sent, refused) = std::thread::scope(|scope| {
        let mut crowd: Vec<_> = (0..2).map(|_| scope.spawn(read_all)).collect();
        crowd.push(scope.spawn(look_at_all));
        let traffic: Vec<_> = veths.iter().map(|veth| site.lab.sender(veth).background(2000)).collect();
        let mut refused = 0;
        for round in 1..=ROUNDS {
            write(&site, round);
            // Every third time none of them waits.
            let waits = round % 3 != 0;
            let timeout = if waits { "--lock-timeout 10m" } else { "" };
            let children: Vec<_> = (0..AT_ONCE).map(|n| apply(FILES[n % 2].0, timeout).spawn()).collect();
            for child in children {
                let output = child.wait_with_output().unwrap();
                let stderr = String::from_utf8_lossy(&output.stderr);
                match output.status.code() {
                    Some(0) => {}
                    Some(2) if !waits && stderr.contains("is locked") => refused += 1,
                    code => panic!("round {round}: exit {code:?}: {stderr}"),
                }
            }
            for (file, ..) in FILES {
                // Those that did not wait may all have been of the other file.
                apply(file, "").run().expect_code(0);
                site.run(&format!("diff {file}")).run().expect_code(0);
            }
        }
        drop(stop);
        for reader in crowd {
            reader.join().unwrap();
        }
        (traffic.into_iter().map(Traffic::stop).collect::<Vec<_>>(), refused)
    });
    let opens = opens.into_inner();
    report(format_args!("{} applies, {refused} refused, {sent:?} frames, {opens} opens", ROUNDS * AT_ONCE));
    assert!(opens > 5000 && refused > 0, "{opens} opens, {refused} refused");
    for (veth, sent) in veths.iter().zip(sent) {
        let stats = readers.iter().zip(FILES).find(|(_, (.., labels))| labels.contains(&&*veth.near));
        stats.unwrap().0.wait_packets(&veth.near, sent);
    }
    for stats in readers {
        assert_eq!(stats.stop().status.code(), Some(0));
    }
}
