//! What `xdp-stats` makes of a world that changes around it: patterns, namespaces, mounts, limits, slow readers of its
//! output. What it says about maps is in reader.rs.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{
    MAP, PASS, Pins, Site, add, between_ticks, counted, events, names, save, set, stats_map, wait_ticks,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use xdpd_kernel::map_types::BPF_MAP_TYPE_ARRAY;
use xdpd_kernel::{Dir, Map, MapDef, bpffs};
use xdpd_testlab::{DEADLINE, Invocation, Lab, Netns, Stats, require_root, wait_for, wait_until, xdp_stats};

const EDGE: &str = "[interfaces.edge]\n";

/// `O_NONBLOCK` as fdinfo shows it.
const NONBLOCK: u32 = 0o4000;

fn applied(generation: u64, map: &Map) -> Pins<'_> {
    Pins { generation, map, retired: &[], base: None }
}

#[test]
#[ignore = "needs root"]
fn a_pattern_follows_devices_and_pins_as_they_come_and_counts_them_from_zero() {
    require_root!();
    let lab = Lab::new("pattern");
    let site = Site::new("[interfaces.\"v*\"]\n");
    let _ = lab.veth("v0", "p0");
    let (first, second, pins_only) = (counted(10), counted(5), counted(3));
    site.apply("v0", &applied(0, &first));
    site.apply("other", &applied(0, &counted(1)));
    let stats = Stats::spawn(site.stats().args(["--interval", "25ms"]).netns(lab.near()));
    stats.wait_event("v0", "baseline");

    // A device without pins is followed, and what is pinned for it then counts from zero. So do pins without a device.
    let mut veth = lab.veth("v1", "p1");
    stats.wait_event("v1", "waiting");
    site.apply("v1", &applied(0, &second));
    stats.wait_packets("v1", 5);
    site.pin("v9", &pins_only);
    stats.wait_packets("v9", 3);

    lab.delete(&veth);
    stats.wait_event("v1", "interface_gone");
    lab.create(&veth);
    stats.wait_event("v1", "interface_up");
    // Under another name it is another interface; the old one is gone again.
    let mark = stats.mark();
    lab.near().ip("link set v1 down");
    lab.rename(&mut veth, "v2");
    stats.wait_event("v2", "waiting");
    let _ = stats.wait_after(mark, "gone", |r| r["event"] == "interface_gone" && r["interface"] == "v1");
    let records = stats.stop().records;
    assert!(records.iter().all(|record| record["interface"] != "other"));
    assert_eq!(names(&records, "v9"), [""; 0]);
}

#[test]
#[ignore = "needs root"]
fn a_namespace_that_is_deleted_and_made_again_is_a_device_that_goes_and_comes() {
    require_root!();
    let lab = Lab::new("tenants");
    let name = format!("{}-t", lab.near().name());
    let site = Site::new(&format!("[interfaces.tenant]\nname = \"eth0\"\nnetns = \"{name}\"\n"));
    site.apply("tenant", &applied(0, &counted(10)));
    let make = || {
        let netns = Netns::create(&name);
        netns.ip("link add eth0 type veth peer name p0");
        netns
    };
    let netns = make();
    let index = netns.ifindex("eth0").unwrap();
    let stats = site.follow();
    let baseline = stats.wait_event("tenant", "baseline");
    assert_eq!((&baseline["device"], &baseline["ifindex"]), (&json!("eth0"), &json!(index)));
    assert_eq!(baseline["netns"], name);

    drop(netns);
    let gone = stats.wait_event("tenant", "interface_gone");
    assert_eq!(gone["ifindex"], index);
    let _netns = make();
    stats.wait_event("tenant", "interface_up");
    assert_eq!(names(&stats.stop().records, "tenant"), ["baseline", "interface_gone", "interface_up"]);
}

#[test]
#[ignore = "needs root"]
fn a_reader_that_looks_once_an_hour_does_not_keep_a_deleted_namespace_alive() {
    require_root!();
    let lab = Lab::new("hourly");
    let name = format!("{}-h", lab.near().name());
    let site = Site::new(&format!("[interfaces.tenant]\nname = \"eth0\"\nnetns = \"{name}\"\n"));
    site.apply("tenant", &applied(0, &counted(10)));
    let netns = Netns::create(&name);
    netns.ip(&format!("link add eth0 type veth peer name p0 netns {}", lab.near().name()));
    let stats = Stats::spawn(site.stats().args(["--interval", "1h"]));
    assert_eq!(stats.wait_event("tenant", "baseline")["device"], "eth0");
    // A device goes when its namespace does, and takes its peer along.
    drop(netns);
    wait_until("the end of the namespace", DEADLINE, || lab.near().ifindex("p0").is_none());
    drop(stats);
}

#[test]
#[ignore = "needs root"]
fn what_is_detached_and_applied_anew_between_two_ticks_is_counted_and_the_doubt_is_told() {
    require_root!();
    let site = Site::new(EDGE);
    let (old, new) = (counted(10), counted(3));
    site.apply("edge", &applied(4, &old));
    let stats = site.follow();
    stats.wait_event("edge", "baseline");
    between_ticks(stats.pid(), || {
        add(&old, PASS, 2);
        site.root().remove_all("edge").unwrap();
        site.apply("edge", &applied(0, &new));
    });
    stats.wait_packets("edge", 2 + 3);
    let records = stats.stop().records;
    assert_eq!(names(&records, "edge"), ["baseline", "map_replaced", "gap"]);
    assert_eq!(events(&records, "edge", "gap")[0]["maps"], json!(null));
}

#[test]
#[ignore = "needs root"]
fn a_map_that_is_pinned_in_the_place_of_another_is_read_from_zero() {
    require_root!();
    let site = Site::new(EDGE);
    let old = counted(10);
    site.pin("edge", &old);
    let stats = site.follow();
    stats.wait_event("edge", "baseline");

    // As loaders do it that know of no exchange: removed and pinned, in the same directory.
    let dir = site.root().open_dir("edge").unwrap();
    let array = MapDef {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 16,
        max_entries: 8,
        ..MapDef::default()
    };
    let new = Map::create(MAP, &array, None).unwrap();
    set(&new, PASS, 0, 7, 448);
    between_ticks(stats.pid(), || {
        add(&old, PASS, 1);
        dir.unlink(MAP).unwrap();
        dir.pin(MAP, &new).unwrap();
    });
    stats.wait_packets("edge", 1 + 7);

    // And for longer than a tick: what comes after the pause is read from zero too.
    dir.unlink(MAP).unwrap();
    stats.wait_event("edge", "waiting");
    dir.pin(MAP, &counted(4)).unwrap();
    stats.wait_packets("edge", 1 + 7 + 4);
    let records = stats.stop().records;
    assert_eq!(names(&records, "edge"), ["baseline", "map_replaced", "waiting", "map_replaced"]);
}

#[test]
#[ignore = "needs root"]
fn another_pin_root_in_the_file_begins_everything_anew() {
    require_root!();
    let site = Site::new(EDGE);
    let (here, there) = (counted(10), counted(20));
    site.apply("edge", &applied(0, &here));
    let stats = Stats::spawn(site.stats().args(["--interval", "1h"]));
    stats.wait_event("edge", "baseline");
    let other = site.bpffs.path().join("other");
    std::fs::create_dir_all(other.join("edge")).unwrap();
    Dir::open(other.join("edge")).unwrap().pin(MAP, &there).unwrap();
    add(&here, PASS, 2);
    save(&site.config_path(), &format!("pin_root = \"{}\"\n{EDGE}", other.display()));
    // Not at the next tick, in an hour: what comes after the edit is not to be taken for the baseline.
    let baseline =
        stats.wait("the new baseline", |r| r["event"] == "baseline" && r["map_id"] == there.id().0);
    assert_eq!(baseline["totals"]["packets_total"], 20);
    // What the old map counted until then is not lost.
    stats.wait_packets("edge", 2);
    let records = stats.stop().records;
    let reloaded = records.iter().find(|record| record["event"] == "config_reloaded").unwrap();
    assert_eq!((&reloaded["added"], &reloaded["removed"]), (&json!(["edge"]), &json!(["edge"])));
}

/// A bpffs on a directory that exists; unmounted when nothing uses it any more.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // In use: then it goes with the mount below it.
        let _ = bpffs::unmount(&self.0);
    }
}

#[test]
#[ignore = "needs root"]
fn what_is_mounted_over_the_pin_root_is_noticed() {
    require_root!();
    let site = Site::new(EDGE);
    let (below, above) = (counted(10), counted(5));
    site.apply("edge", &applied(0, &below));
    let stats = site.follow();
    stats.wait_event("edge", "baseline");
    bpffs::mount(site.bpffs.pin_root()).unwrap();
    let _mounted = Mounted(site.bpffs.pin_root());
    site.pin("edge", &above);
    stats.wait_packets("edge", 5);
    drop(stats);
}

#[test]
#[ignore = "needs root"]
fn without_inotify_every_change_is_seen_at_the_next_tick() {
    require_root!();
    // Limits of a user namespace hold for what is in it alone.
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        let site = Site::new(EDGE);
        let (first, second) = (counted(10), counted(5));
        site.apply("edge", &applied(0, &first));
        let script = format!("echo 0 > /proc/sys/user/{limit} && exec \"$@\"");
        let stats = Stats::spawn(
            Invocation::of("unshare")
                .args(["--user", "--map-root-user", "sh", "-c", &script, "sh"])
                .arg(xdp_stats().path())
                .arg("--config")
                .arg(site.config_path())
                .args(["--interval", "25ms"]),
        );
        stats.wait_event("edge", "baseline");
        site.apply("edge", &Pins { retired: &[(0, &first)], ..applied(1, &second) });
        stats.wait_packets("edge", 5);
        for edit in ["a", "b", "c"] {
            let mark = between_ticks(stats.pid(), || {
                site.config(&format!("[interfaces.edge]\n[interfaces.{edit}]\n"));
                stats.mark()
            });
            let noticed = stats.wait_event(edit, "waiting")["seq"].as_u64();
            let until = stats.records().into_iter().skip(mark).take_while(|r| r["seq"].as_u64() < noticed);
            let ticks = events(&until.collect::<Vec<_>>(), "edge", "sample").len();
            // The four in which the file must be quiet, and some more around the save.
            assert!(ticks <= 8, "{limit}: noticed within {ticks} ticks");
        }

        // It waits all the same, and does not keep a CPU busy: before each tick it gives up the one that it has.
        let before = waits(stats.pid());
        wait_ticks(&stats, "edge", 20);
        let waits = waits(stats.pid()) - before;
        assert!(waits >= 15, "{limit}: waited {waits} times in 20 ticks");
        let finished = stats.stop();
        assert!(finished.stderr.contains("cannot watch"), "{}", finished.stderr);
    }
}

/// How often a process has waited for something.
fn waits(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    count.trim().parse().unwrap()
}

/// A child that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs root"]
fn a_signal_ends_it_also_while_nobody_reads_its_output() {
    require_root!();
    let site = Site::new(EDGE);
    site.apply("edge", &applied(0, &stats_map()));
    let (pipe, pipe_end) = std::io::pipe().unwrap();
    // What a service's standard output is.
    let (socket, socket_end) = UnixStream::pair().unwrap();
    let outputs = [(OwnedFd::from(pipe), OwnedFd::from(pipe_end)), (socket.into(), socket_end.into())];
    for (output, end) in outputs {
        let mut command = Command::new(xdp_stats().path());
        command.arg("--config").arg(site.config_path()).args(["--json", "--interval", "1ms"]);
        let mut running = Running(command.stdout(end).spawn().unwrap());
        wait_until("an output without room", DEADLINE, || {
            let pending = rustix::io::ioctl_fionread(&output).unwrap();
            pending > 16 * 1024 && waits_for_room(running.0.id())
        });
        kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
        let status = wait_for("the end of the reader", DEADLINE, || running.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{output:?}");
    }
}

/// Whether a reader waits for its output: with poll or ppoll, where it waits for everything else with epoll.
fn waits_for_room(process: u32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{process}/syscall")).unwrap();
    let polls: &[&str] = if cfg!(target_arch = "x86_64") { &["7", "271"] } else { &["73"] };
    polls.contains(&call.split(' ').next().unwrap())
}

#[test]
#[ignore = "needs root"]
fn readers_that_share_a_pipe_do_not_tear_each_other_s_lines() {
    require_root!();
    let ticks = 60;
    let labels: Vec<String> = (0..12).map(|number| format!("if{number}")).collect();
    let site = Site::new(&format!("[interfaces.{}]\n", labels.join("]\n[interfaces.")));
    let maps: Vec<Map> = labels.iter().map(|_| counted(1)).collect();
    for (label, map) in labels.iter().zip(&maps) {
        site.pin(label, map);
    }
    let (mut end, shared) = std::io::pipe().unwrap();
    let start = || {
        let mut command = Command::new(xdp_stats().path());
        command.arg("--config").arg(site.config_path()).args(["--json", "--interval", "1ms"]);
        let count = command.args(["--count", &ticks.to_string()]);
        Running(count.stdout(shared.try_clone().unwrap()).spawn().unwrap())
    };
    let mut readers = [start(), start()];
    drop(shared);
    // Most of it comes through a pipe that is full, in pieces.
    wait_until("a full pipe", DEADLINE, || {
        rustix::io::ioctl_fionread(&end).unwrap() > 48 * 1024
            && readers.iter().all(|reader| waits_for_room(reader.0.id()))
    });
    let mut text = String::new();
    end.read_to_string(&mut text).unwrap();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(record["schema"], 1);
    }
    assert_eq!(text.lines().count(), 2 * (1 + ticks) * labels.len());
    for reader in &mut readers {
        assert_eq!(reader.0.wait().unwrap().code(), Some(0));
    }
}

#[test]
#[ignore = "needs root"]
fn the_output_of_other_processes_is_left_as_it_is() {
    require_root!();
    let site = Site::new(EDGE);
    site.apply("edge", &applied(0, &stats_map()));
    // The reader wants its own end of the pipe not to wait; the shell's end is to wait as before.
    let script = format!(
        "{} --config {} --json --count 1 --interval 20ms; cat /proc/self/fdinfo/1 >&2",
        xdp_stats().path().display(),
        site.config_path().display()
    );
    let mut shell = Command::new("sh")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut lines, mut info) = (String::new(), String::new());
    shell.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
    shell.stderr.take().unwrap().read_to_string(&mut info).unwrap();
    assert!(shell.wait().unwrap().success());
    assert_eq!(lines.lines().count(), 2);
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    assert_eq!(u32::from_str_radix(flags.trim(), 8).unwrap() & NONBLOCK, 0, "{info}");
}

#[test]
#[ignore = "needs root"]
fn a_config_behind_a_link_that_leads_elsewhere_is_followed() {
    require_root!();
    let site = Site::new(EDGE);
    site.apply("edge", &applied(0, &counted(1)));
    let elsewhere = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(site.config_path()).unwrap();
    let target = elsewhere.path().join("target.toml");
    std::fs::write(&target, &text).unwrap();
    let link = site.dir.path().join("link.toml");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let follow =
        |path: &Path| Stats::spawn(xdp_stats().arg("--config").arg(path).args(["--interval", "25ms"]));
    let stats = follow(&link);
    stats.wait_event("edge", "baseline");
    // Nothing happens in the link's own directory.
    save(&target, &format!("{text}[interfaces.more]\n"));
    stats.wait_event("more", "waiting");
    assert_eq!(names(&stats.stop().records, "edge"), ["baseline"]);
}
